"""Learning rates."""

import math

import pytest

from seit_ray.training.schedule import peak_lr, rate_at, warmup_cosine

SETTINGS = {"peak": 2e-3, "min_lr": 1e-5, "warmup_epochs": 5, "epochs": 25}


@pytest.mark.parametrize(
    ("rule", "batch", "factor"),
    [("linear", 256, 1), ("linear", 4096, 16), ("linear", 1024, 4), ("sqrt", 1024, 4), ("sqrt", 64, 1)],
)
def test_peak_is_the_base_rate_scaled(rule, batch, factor):
    assert peak_lr(lr=None, blr=1e-3, lr_rule=rule, global_batch_size=batch) == pytest.approx(factor * 1e-3)


def test_a_given_rate_wins():
    assert peak_lr(lr=0.25, blr=1e-3, lr_rule="linear", global_batch_size=4096) == 0.25


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 0.0),
        (1, 0.2 * 2e-3),
        (2.5, 0.5 * 2e-3),
        (5, 2e-3),
        (10, 1e-5 + (2e-3 - 1e-5) * (0.5 + 0.25 * math.sqrt(2))),
        (15, (2e-3 + 1e-5) / 2),
        (25, 1e-5),
        (30, 1e-5),
    ],
)
def test_rate_rises_in_a_line_and_falls_in_half_a_cosine(epoch, rate):
    assert warmup_cosine(epoch, **SETTINGS) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 1e-4), (2.5, (1e-4 + 2e-3) / 2), (5, 2e-3), (15, 1e-3), (25, 0), (30, 0)]
)
def test_the_linear_one_falls_in_a_line(epoch, rate):
    settings = SETTINGS | {"min_lr": 0.0, "warmup_lr": 1e-4}
    assert rate_at(epoch, schedule="warmup_linear", **settings) == pytest.approx(rate)


def test_rate_rises_then_falls():
    rates = [warmup_cosine(step / 100, **SETTINGS) for step in range(2501)]
    assert max(rates) == rates[500] == pytest.approx(2e-3)
    assert rates[:501] == sorted(rates[:501])
    assert rates[500:] == sorted(rates[500:], reverse=True)


def test_no_warm_up_starts_at_the_peak():
    assert warmup_cosine(0, peak=1.0, min_lr=0.0, warmup_epochs=0, epochs=10) == 1.0


def test_a_run_shorter_than_its_warm_up_only_rises():
    rates = [warmup_cosine(e, peak=1.0, min_lr=0.0, warmup_epochs=40, epochs=10) for e in range(11)]
    assert rates == pytest.approx([e / 40 for e in range(11)])


def test_warm_up_of_the_whole_run():
    assert warmup_cosine(10, peak=1.0, min_lr=0.1, warmup_epochs=10, epochs=10) == pytest.approx(1.0)
