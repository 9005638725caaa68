"""Random numbers of a step: the same for any split into ranks, and of the right distribution."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seit_ray.augment.random import StepRandom, derive_seed

MASK = (1 << 64) - 1


def draws(rng):
    return {
        "uniform": rng.uniform("u", 3, 5),
        "normal": rng.normal("n", 4),
        "integers": rng.integers("i", 17, 2),
        "scalar": rng.uniform("s"),
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(1, 24), st.data())
def test_any_split_of_the_global_batch_draws_the_same(seed, step, size, data):
    whole = draws(StepRandom(seed, step, slice(0, size), size))
    cuts = sorted({0, size, *data.draw(st.lists(st.integers(0, size), max_size=4))})
    parts = [draws(StepRandom(seed, step, slice(a, b), size)) for a, b in itertools.pairwise(cuts)]
    for name, value in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), value), name
    rows = torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5)))
    for name, value in draws(StepRandom(seed, step, rows, size)).items():
        assert torch.equal(value, whole[name][rows]), name
    strided = draws(StepRandom(seed, step, slice(1, None, 2), size))
    assert torch.equal(strided["uniform"], whole["uniform"][1::2])


def test_shapes_types_and_ranges():
    rng = StepRandom(1, 2, slice(3, 10), 16)
    uniform, normal, integers = rng.uniform("a", 4, 2), rng.normal("a", 3), rng.integers("a", 6)
    assert (uniform.shape, normal.shape, integers.shape) == ((7, 4, 2), (7, 3), (7,))
    assert (uniform.dtype, normal.dtype, integers.dtype) == (torch.float32, torch.float32, torch.int64)
    assert StepRandom(1, 2, slice(0, 0), 16).uniform("a", 4).shape == (0, 4)


@pytest.mark.parametrize("change", [{"seed": 6}, {"step": 8}, {"stream": "other"}])
def test_another_seed_step_or_stream_draws_something_unrelated(change):
    def draw(seed=5, step=7, stream="noise"):
        return StepRandom(seed, step, slice(0, 64), 64).normal(stream, 500).flatten()

    first, second = draw(), draw(**change)
    assert torch.equal(first, draw())
    # 32000 pairs of independent numbers: the correlation's standard deviation is 0.0056.
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1].item()) < 0.025


def test_number_is_one_for_all_ranks_and_uniform_over_steps():
    rng = [StepRandom(3, 9, rows, 8) for rows in (slice(0, 4), slice(4, 8))]
    assert rng[0].number("ratio") == rng[1].number("ratio")
    assert rng[0].number("ratio") != rng[0].number("other")
    numbers = torch.tensor([StepRandom(0, step, slice(0, 1), 1).number("x") for step in range(4000)])
    assert 0 <= numbers.min() < numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.02)
    assert numbers.std().item() == pytest.approx(12**-0.5, abs=0.01)


def test_uniform_numbers_fill_their_interval_evenly():
    values = StepRandom(0, 0, slice(0, 500), 500).uniform("u", 1000)
    assert 0 <= values.min() < 1e-4
    assert 1 - 1e-4 < values.max() < 1
    counts = torch.histc(values, bins=100, min=0, max=1)
    chi_squared = ((counts - 5000) ** 2 / 5000).sum().item()
    assert 55 < chi_squared < 160  # 99 degrees of freedom, 1e-4 at either end
    # Neighbours in a row, and the same place in neighbouring rows, are unrelated.
    for left, right in ((values[:, :-1], values[:, 1:]), (values[:-1], values[1:])):
        pair = torch.stack([left.flatten(), right.flatten()])
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 0.008
    assert len(values.flatten().unique()) > 490_000 * (1 - 0.02)


def test_normal_numbers_have_the_moments_and_tails():
    values = StepRandom(0, 0, slice(0, 1000), 1000).normal("n", 1000).double()
    assert values.isfinite().all()
    assert values.mean().item() == pytest.approx(0, abs=0.005)
    assert values.std().item() == pytest.approx(1, abs=0.005)
    assert (values**4).mean().item() == pytest.approx(3, abs=0.05)
    for z in (1.0, 2.0, 3.0):
        expected = math.erfc(z / math.sqrt(2))
        assert (values.abs() > z).double().mean().item() == pytest.approx(expected, rel=0.1)


def test_coarse_normal_numbers_have_the_moments_and_tails_too():
    values = StepRandom(0, 0, slice(0, 1000), 1000).coarse_normal("n", 1000).double()
    assert values.mean().item() == pytest.approx(0, abs=0.005)
    assert values.std().item() == pytest.approx(1, abs=0.005)
    assert (values**4).mean().item() == pytest.approx(3, abs=0.05)
    for z in (1.0, 2.0, 3.0):
        expected = math.erfc(z / math.sqrt(2))
        assert (values.abs() > z).double().mean().item() == pytest.approx(expected, rel=0.1)
    assert 4 < values.abs().max() < 4.4
    for left, right in ((values[:, :-1], values[:, 1:]), (values[:-1], values[1:])):
        assert abs(torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1].item()) < 0.006


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (4, 2)])
def test_coarse_normal_numbers_have_any_shape_and_follow_their_row(shape):
    whole = StepRandom(0, 0, slice(0, 9), 9).coarse_normal("n", *shape)
    assert (whole.shape, whole.dtype) == ((9, *shape), torch.float32)
    assert torch.equal(StepRandom(0, 0, slice(4, 9), 9).coarse_normal("n", *shape), whole[4:])
    assert StepRandom(0, 0, slice(4, 4), 9).coarse_normal("n", *shape).shape == (0, *shape)


def test_other_rows_of_the_step_can_be_asked_for():
    rng = StepRandom(2, 3, slice(4, 8), 16)
    rows = torch.tensor([0, 15, 5])
    assert torch.equal(rng.at(rows).uniform("u", 2), StepRandom(2, 3, slice(0, 16), 16).uniform("u", 2)[rows])
    assert list(rng.host_rows()) == [4, 5, 6, 7]
    assert list(rng.at(rows).host_rows()) == [0, 15, 5]
    assert list(StepRandom(2, 3, slice(1, None, 5), 16).host_rows()) == [1, 6, 11]


@pytest.mark.parametrize("high", [1, 2, 5, 1000, 1 << 31])
def test_integers_reach_all_values_evenly(high):
    values = StepRandom(0, 0, slice(0, 200), 200).integers("i", high, 200)
    assert values.min() >= 0
    assert values.max() < high
    assert values.double().mean().item() == pytest.approx((high - 1) / 2, rel=0.02, abs=1e-9)
    if high <= 5:
        assert torch.bincount(values.flatten(), minlength=high).min() > 40000 / high * 0.95


def test_bits_are_those_of_splitmix64():
    def splitmix(counter):
        x = counter & MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)

    rows, count = [0, 1, 5], 4
    rng = StepRandom(11, 12, torch.tensor(rows), 8)
    key = derive_seed(11, 12, "s")
    expected = [[splitmix((row * count + i) * 0x9E3779B97F4A7C15 + key) >> 40 for i in range(count)] for row in rows]
    assert (rng.uniform("s", count) * 2**24).tolist() == expected
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # the generator's published first output of seed 0


def test_derived_seeds_suit_generators_and_differ():
    seeds = {derive_seed(seed, step, s) for seed in range(5) for step in range(50) for s in ("a", "rank 1")}
    assert len(seeds) == 500
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))
    assert derive_seed(1, 23, "x") != derive_seed(12, 3, "x")


@pytest.mark.parametrize("rows", [slice(-1, 4), slice(0, 9), slice(5, 4), slice(4, 0, -1)])
def test_rows_outside_the_global_batch_are_refused(rows):
    with pytest.raises(ValueError, match="of a global batch of 8; expected a rising slice within it"):
        StepRandom(0, 0, rows, 8)


@pytest.mark.parametrize("high", [0, (1 << 31) + 1])
def test_integers_without_a_range_are_refused(high):
    with pytest.raises(ValueError, match=rf"high {high}; expected 1 to 2\^31"):
        StepRandom(0, 0, slice(0, 1), 1).integers("i", high)
