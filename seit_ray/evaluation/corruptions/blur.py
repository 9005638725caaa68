"""Blurs. Images float32 [3,H,W], 0 to 1; lengths in pixels."""

from __future__ import annotations

import functools

import numpy as np

from seit_ray.evaluation.corruptions.sampling import blurred, bordered, filtered, padded, zoomed

Rng = np.random.Generator
LEAST_REACH = 8  # of the disk's square: published kernels are 17 pixels wide up to this radius


def gaussian_blur(image: np.ndarray, sigma: float, rng: Rng) -> np.ndarray:
    """A Gaussian."""
    return blurred(image, sigma)


def defocus_blur(image: np.ndarray, strength: tuple[float, float], rng: Rng) -> np.ndarray:
    """A disk."""
    return filtered(image, disk(*strength))


@functools.lru_cache(maxsize=32)
def disk(radius: float, edge_sigma: float) -> np.ndarray:
    """A disk [k,k] that adds up to 1, its edge softened over a pixel, or two where it is large."""
    reach, soft = (LEAST_REACH, 1) if radius <= LEAST_REACH else (int(radius), 2)
    places = np.arange(-reach, reach + 1)
    inside = (places[:, None] ** 2 + places**2 <= radius**2).astype(float)
    taps = np.exp(-0.5 * (np.arange(-soft, soft + 1) / edge_sigma) ** 2)
    kernel = padded((inside / inside.sum())[None], soft, "mirror")[0]
    for axis in (0, 1):
        kernel = np.apply_along_axis(lambda line: np.convolve(line, taps / taps.sum(), "valid"), axis, kernel)
    return kernel


def motion_blur(image: np.ndarray, strength: tuple[float, float], rng: Rng) -> np.ndarray:
    """A trail to one side, at most 45 degrees from the horizontal."""
    return moved(image, *strength, angle=rng.uniform(-45, 45))


def moved(maps: np.ndarray, radius: float, sigma: float, *, angle: float) -> np.ndarray:
    """Maps [C,H,W] with a trail of 2 * radius + 1 pixels: half a Gaussian along an angle in degrees (ImageMagick)."""
    height, width = maps.shape[-2:]
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    direction = np.deg2rad(angle)
    right, down = (np.ceil(steps * part - 0.5).astype(int) for part in (np.cos(direction), np.sin(direction)))
    reach = len(steps)
    wide, found = padded(maps, reach, "edge"), np.zeros_like(maps)
    for weight, x, y in zip((weights / weights.sum()).astype(np.float32), right + reach, down + reach, strict=True):
        found += weight * wide[:, y : y + height, x : x + width]
    return found


def zoom_blur(image: np.ndarray, strength: tuple[float, int], rng: Rng) -> np.ndarray:
    """The mean of the image and of its enlargements by factors from 1 on, in steps."""
    step, count = strength
    total = image.copy()
    for i in range(count):
        total += zoomed(image, 1 + i * step)
    return total / (count + 1)


def glass_blur(image: np.ndarray, strength: tuple[float, int, int], rng: Rng) -> np.ndarray:
    """Pixels take the colours of others nearby, between two Gaussians.

    From the last pixel to the first, each becomes what a pixel at most `distance` away is by then. The release writes
    an exchange that, of colour images, copies: this is that copy, all pixels at a time.
    """
    sigma, distance, rounds = strength
    height, width = image.shape[-2:]
    image = np.floor(blurred(image, sigma) * 255 + 1e-4) / np.float32(255)  # whole levels, as published
    for _ in range(rounds):
        source = scattered(height, width, distance, rng)
        image = image.reshape(3, -1)[:, source].reshape(image.shape)
    return blurred(image, sigma)


def scattered(height: int, width: int, distance: int, rng: Rng) -> np.ndarray:
    """int64 [H*W]: of which pixel each has the colour, after a round from the last to the first pixel.

    A pixel whose neighbour had its turn before takes what that one became: chains, followed by doubling.
    """
    rows, columns = np.mgrid[distance + 1 : height - distance + 1, distance + 1 : width - distance + 1]
    down, right = (rng.integers(-distance, distance, rows.shape) for _ in range(2))
    num, here = height * width, (rows * width + columns).ravel()
    to_rows, to_columns = rows + down, columns + right
    there = (bordered(to_rows, height, "edge") * width + bordered(to_columns, width, "edge")).ravel()
    has_turn = np.zeros(num, bool)
    has_turn[here] = True
    is_done = has_turn[there] & (there > here)
    follow = np.concatenate([np.arange(num) + num, np.arange(num) + num])  # what it became, and what it was
    follow[here] = np.where(is_done, there, there + num)
    while True:
        further = follow[follow]
        if np.array_equal(further, follow):
            return follow[:num] - num
        follow = further
