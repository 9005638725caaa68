"""The weights of the best evaluation."""

import math

import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.training.best import Best
from tests.tiny_trainers import evaluation, noisy_trainer, tiny_classifier, tiny_trainer
from tests.training.test_resume import Interrupted, stop_at


def values(*numbers):
    """An evaluation that gives these numbers, one after another."""
    given = iter(numbers)
    return lambda net, epoch: {"val_top1": next(given)}


@pytest.mark.parametrize(
    ("metric", "numbers", "best_step"),
    [
        ("val_top1", (0.2, 0.5, 0.4, 0.5), 2),
        ("val_loss", (0.2, 0.5, 0.1, 0.1), 3),
        ("val_loss", (math.nan, 0.5, 0.7, math.nan), 2),
    ],
)
def test_the_best_is_the_largest_or_the_least_loss(metric, numbers, best_step):
    best, model = Best(metric), torch.nn.Linear(1, 1)
    for step, number in enumerate(numbers, start=1):
        torch.nn.init.constant_(model.weight, step)
        best.update({metric: number}, step, model, {})
    assert best.about() == {"metric": metric, "value": numbers[best_step - 1], "step": best_step}
    assert best.weights["weight"].item() == best_step


def test_a_metric_that_is_not_there_is_an_error(run):
    with pytest.raises(ValueError, match=r"keep_best 'val_top9'; expected a metric .*val_loss, val_top1.*; choose one"):
        tiny_trainer(run, evaluate=evaluation, loop={"keep_best": "val_top9"}).train()


def test_averaged_weights_are_kept_for_their_metric(run):
    trainer = noisy_trainer(run, loop={"epochs": 4, "ema_decay": 0.9, "keep_best": "ema_val_loss"})
    trainer.train()
    assert trainer.best.step == 14
    assert all(torch.equal(trainer.best.weights[name], value) for name, value in trainer.ema.items())


def test_without_a_metric_there_is_no_best(run):
    trainer = tiny_trainer(run, evaluate=evaluation)
    trainer.train()
    assert trainer.best.about() is None
    assert not trainer.best.weights


def test_a_killed_run_keeps_the_best_it_had(tmp_path):
    whole, broken = Folder(tmp_path / "whole"), Folder(tmp_path / "broken")
    loop = {"epochs": 4, "keep_best": "val_top1"}
    expected = tiny_trainer(whole, loop=loop, evaluate=values(0.1, 0.9, 0.3, 0.2))
    expected.train()
    with pytest.raises(Interrupted):
        tiny_trainer(broken, loop=loop, evaluate=values(0.1, 0.9, 0.3), on_progress=stop_at(12)).train()
    found = tiny_trainer(broken, tiny_classifier(seed=7), loop=loop, evaluate=values(0.2))
    found.train()
    assert found.best.about() == expected.best.about() == {"metric": "val_top1", "value": 0.9, "step": 8}
    assert all(torch.equal(found.best.weights[name], value) for name, value in expected.best.weights.items())
    last = expected.model.state_dict()
    assert not all(torch.equal(last[name], value) for name, value in expected.best.weights.items())
