"""Mask ratio and noise: the recorded statistics, the bounds, and the same numbers on any split."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seit_ray.augment.masking import mask_noise, sample_mask_ratio
from seit_ray.augment.random import StepRandom

GOLDEN = Path(__file__).parents[1] / "golden" / "seitpp_mtm.npz"
PUBLISHED = {"minimum": 0.4, "mu": 0.45, "std": 0.25, "maximum": 1.0}


def ratios(count, seed=0, **settings):
    return np.array([sample_mask_ratio(StepRandom(seed, step, slice(0, 1), 1), **settings) for step in range(count)])


def test_ratios_have_the_recorded_distribution():
    values = ratios(20_000, **PUBLISHED)
    mean, std, low, high, q05, q50, q95 = np.load(GOLDEN)["out/ratio_sampler_mean_std_min_max_q05_q50_q95"]
    # Standard errors of 20 000 draws are 0.001 and less (0.0025 at the median and the upper tail).
    assert values.mean() == pytest.approx(mean, abs=0.004)
    assert values.std() == pytest.approx(std, abs=0.003)
    assert np.quantile(values, 0.05) == pytest.approx(q05, abs=0.003)
    assert np.quantile(values, 0.50) == pytest.approx(q50, abs=0.007)
    assert np.quantile(values, 0.95) == pytest.approx(q95, abs=0.007)
    assert low - 1e-4 < values.min() < low + 0.002
    assert high - 0.01 < values.max() <= 1.0


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(-3, 4), st.floats(1e-3, 3), st.integers(0, 10**6))
def test_ratios_stay_within_any_bounds(a, b, mu, std, step):
    minimum, maximum = sorted((a, b))
    rng = StepRandom(1, step, slice(0, 1), 1)
    ratio = sample_mask_ratio(rng, minimum=minimum, mu=mu, std=std, maximum=maximum)
    assert minimum <= ratio <= maximum


def test_far_tails_keep_their_shape():
    # From 8 deviations on, the density falls by exp(-8) a deviation: the mean excess is near std/8.
    above = ratios(2000, minimum=0.8, mu=0.0, std=0.1, maximum=1.0)
    assert (above - 0.8).mean() == pytest.approx(0.1 / 8, rel=0.1)
    below = ratios(2000, minimum=0.0, mu=1.0, std=0.1, maximum=0.2)
    assert (0.2 - below).mean() == pytest.approx(0.1 / 8, rel=0.1)
    assert sample_mask_ratio(StepRandom(0, 0, slice(0, 1), 1), minimum=0.9, mu=0.0, std=0.001, maximum=1.0) == 0.9
    assert sample_mask_ratio(StepRandom(0, 0, slice(0, 1), 1), minimum=0.0, mu=1.0, std=0.001, maximum=0.1) == 0.1


def test_one_ratio_a_step_for_all_ranks_and_none_without_std():
    ranks = [StepRandom(4, 10, rows, 12) for rows in (slice(0, 5), slice(5, 12))]
    first, second = (sample_mask_ratio(rng, **PUBLISHED) for rng in ranks)
    assert first == second
    assert len(set(ratios(50, **PUBLISHED))) == 50
    assert not np.array_equal(ratios(5, **PUBLISHED), ratios(5, seed=1, **PUBLISHED))
    assert set(ratios(5, minimum=0.4, mu=0.75, std=0.0, maximum=1.0)) == {0.75}


def test_noise_is_the_rows_share_of_the_global_noise_and_masks_evenly():
    whole = mask_noise(StepRandom(0, 3, slice(0, 4000), 4000), 16)
    assert whole.shape == (4000, 16)
    part = mask_noise(StepRandom(0, 3, slice(1000, 1500), 4000), 16)
    assert torch.equal(part, whole[1000:1500])
    masked = (whole.argsort(dim=1).argsort(dim=1) < 8).float().mean(dim=0)
    assert (masked - 0.5).abs().max() < 0.04  # standard error 0.008


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimum": 0.7, "maximum": 0.6}, "minimum 0.7, maximum 0.6, .*put them in order"),
        ({"maximum": 1.1}, "maximum 1.1"),
        ({"minimum": -0.1}, "minimum -0.1"),
        ({"std": -1.0}, "std -1.0; expected"),
        ({"std": 0.0, "mu": 0.3}, "fixed mask ratio 0.3; expected 0.4 to 1.0"),
    ],
)
def test_wrong_bounds_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        sample_mask_ratio(StepRandom(0, 0, slice(0, 1), 1), **(PUBLISHED | changes))
