"""Which units are masked: the ratio of a step and the noise that orders the units."""

from __future__ import annotations

import math
from statistics import NormalDist

from torch import Tensor

from seit_ray.augment.mask_counts import check_ratio
from seit_ray.augment.random import StepRandom

__all__ = ["mask_noise", "sample_mask_ratio"]


def _lower_tail(z: float) -> float:
    # erfc, and not 1 + erf: the far tail keeps its digits.
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def sample_mask_ratio(rng: StepRandom, *, minimum: float, mu: float, std: float, maximum: float) -> float:
    """Return the mask ratio of a step: normal (mu, std) truncated to [minimum, maximum]; std 0 gives mu.

    One number for the global batch, the same on every rank. Bounds outside 0 <= minimum <= maximum <= 1, a
    negative std, or a fixed mu outside the bounds is a ValueError. Source: MAGE (Li et al. 2023), masking;
    SeiT++.
    """
    check_ratio(minimum=minimum, mu=mu, std=std, maximum=maximum)
    if std == 0.0:
        return mu
    low, high = (minimum - mu) / std, (maximum - mu) / std
    # The lower tail is the precise one: an interval above the mean is mirrored into it.
    mirrored = low > 0.0
    if mirrored:
        low, high = -high, -low
    tail = _lower_tail(low)
    probability = tail + rng.number("mask_ratio") * (_lower_tail(high) - tail)
    if not 0.0 < probability < 1.0:  # the mass underflows: all of it lies at the bound nearest to mu
        return minimum if mirrored else maximum
    z = NormalDist().inv_cdf(probability)
    return min(max(mu + std * (-z if mirrored else z), minimum), maximum)


def mask_noise(rng: StepRandom, num_patches: int) -> Tensor:
    """Return uniform noise [B,P] for this rank's rows; the units of lowest noise are masked."""
    return rng.uniform("mask_noise", num_patches)
