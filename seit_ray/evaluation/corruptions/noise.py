"""Noise in each value. Images float32 [3,H,W], 0 to 1; what comes out may lie outside and is clipped by the caller."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator


def gaussian_noise(image: np.ndarray, deviation: float, rng: Rng) -> np.ndarray:
    """The same deviation everywhere."""
    return image + deviation * rng.standard_normal(image.shape, np.float32)


def shot_noise(image: np.ndarray, photons: float, rng: Rng) -> np.ndarray:
    """Photons that are counted: Poisson, `photons` of a white value on average."""
    return (rng.poisson(image * photons) / photons).astype(np.float32)


def impulse_noise(image: np.ndarray, share: float, rng: Rng) -> np.ndarray:
    """A share of the values becomes 0 or 1, either as likely."""
    drawn = rng.random(image.shape, np.float32)
    return np.where(drawn < share / 2, np.float32(0), np.where(drawn < share, np.float32(1), image))


def speckle_noise(image: np.ndarray, deviation: float, rng: Rng) -> np.ndarray:
    """A deviation in proportion to the value."""
    return image * (1 + deviation * rng.standard_normal(image.shape, np.float32))
