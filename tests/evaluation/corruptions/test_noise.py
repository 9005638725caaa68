"""Noise has the moments that its strength says."""

import numpy as np
import pytest

from seit_ray.evaluation.corruptions import noise

GREY = np.full((3, 100, 100), 0.4, np.float32)


def rng():
    """Random numbers."""
    return np.random.default_rng(7)


@pytest.mark.parametrize(
    ("function", "strength", "deviation"),
    [
        (noise.gaussian_noise, 0.1, 0.1),
        (noise.speckle_noise, 0.2, 0.08),
        (noise.shot_noise, 12, np.sqrt(0.4 / 12)),
    ],
)
def test_mean_and_deviation(function, strength, deviation):
    found = function(GREY, strength, rng())
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(0.4, abs=4 * deviation / np.sqrt(GREY.size))
    assert found.std() == pytest.approx(deviation, rel=0.03)


def test_impulses():
    found = noise.impulse_noise(GREY, 0.2, rng())
    shares = [(found == value).mean() for value in (0, 1, np.float32(0.4))]
    assert shares == pytest.approx([0.1, 0.1, 0.8], abs=0.01)
