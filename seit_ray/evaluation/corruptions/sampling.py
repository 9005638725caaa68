"""What the corruptions share: borders, Gaussian filters, zooms, sampling between pixels, fractals. Maps are [C,H,W]."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

Border = Literal["edge", "mirror", "reflect"]  # of abcd: aabcdd, cbabcdcb (the edge once), baabcddc


def bordered(places: np.ndarray, size: int, border: Border) -> np.ndarray:
    """Places along a side, of any reach, as places within it."""
    if border == "edge":
        return places.clip(0, size - 1)
    if border == "mirror":
        period = max(1, 2 * (size - 1))
        places = places % period
        return np.minimum(places, period - places) if size > 1 else np.zeros_like(places)
    places = places % (2 * size)
    return np.minimum(places, 2 * size - 1 - places)


def padded(maps: np.ndarray, reach: int, border: Border) -> np.ndarray:
    """Maps with `reach` more pixels at each edge."""
    rows, columns = (bordered(np.arange(-reach, size + reach), size, border) for size in maps.shape[-2:])
    return maps[..., rows[:, None], columns]


@functools.lru_cache(maxsize=64)
def gaussian_matrix(size: int, sigma: float, border: Border, truncate: float) -> np.ndarray:
    """float32 [size,size] that blurs a side, borders and all: for a wide sigma far less work than its taps."""
    reach = int(truncate * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-9)) ** 2)
    matrix = np.zeros((size, size))
    rows = np.arange(size)[:, None]
    np.add.at(matrix, (rows, bordered(rows + offsets, size, border)), weights / weights.sum())
    return matrix.astype(np.float32)


def blurred(maps: np.ndarray, sigma: float, border: Border = "edge", truncate: float = 4.0) -> np.ndarray:
    """Maps float32 [C,H,W] under a Gaussian of deviation sigma, in pixels, cut off at truncate * sigma."""
    height, width = maps.shape[-2:]
    down, across = (gaussian_matrix(size, float(sigma), border, truncate) for size in (height, width))
    return np.matmul(np.matmul(down, maps), across.T)


def filtered(maps: np.ndarray, kernel: np.ndarray, border: Border = "mirror") -> np.ndarray:
    """Maps float32 [C,H,W] under an odd kernel [k,k], not turned around."""
    wide = torch.from_numpy(np.ascontiguousarray(padded(maps, len(kernel) // 2, border)))
    return F.conv2d(wide[:, None], torch.from_numpy(kernel.astype(np.float32))[None, None])[:, 0].numpy()


def zoomed(maps: np.ndarray, factor: float) -> np.ndarray:
    """The middle of maps float32 [C,H,W], enlarged linearly by a factor of 1 or more; the same shape."""
    sides = maps.shape[-2:]
    inner = [int(np.ceil(side / factor)) for side in sides]
    top, left = ((side - part) // 2 for side, part in zip(sides, inner, strict=True))
    part = maps[:, top : top + inner[0], left : left + inner[1]]
    larger = [max(side, round(part * factor)) for side, part in zip(sides, inner, strict=True)]
    whole = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(part))[None], size=larger, mode="bilinear", align_corners=True
    )
    top, left = ((large - side) // 2 for large, side in zip(larger, sides, strict=True))
    return whole[0, :, top : top + sides[0], left : left + sides[1]].numpy()


def sampled(maps: np.ndarray, rows: np.ndarray, columns: np.ndarray, border: Border) -> np.ndarray:
    """Maps float32 [C,H,W] at places [H',W'] between pixels, linearly."""
    height, width = maps.shape[-2:]
    centred = border == "reflect"  # torch turns back half a pixel beyond the last one, or at it
    if centred:
        places = ((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1)
    else:
        places = (2 * columns / max(1, width - 1) - 1, 2 * rows / max(1, height - 1) - 1)
    grid = torch.from_numpy(np.stack(places, axis=-1).astype(np.float32))[None]
    padding = "border" if border == "edge" else "reflection"
    found = F.grid_sample(
        torch.from_numpy(np.ascontiguousarray(maps))[None], grid, padding_mode=padding, align_corners=not centred
    )
    return found[0].numpy()


def plasma(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """A plasma fractal float32 [n,n] from 0 to 1, n the power of two from `side` up; its edges meet.

    By diamonds and squares. The displacement falls by decay squared a level, as in the release of ImageNet-C.
    """
    size = 1 << max(1, (side - 1).bit_length())
    field = np.zeros((size, size), np.float32)
    reach, step = 1.0, size
    while step >= 2:
        half, count = step // 2, size // step

        def moved(total: np.ndarray, reach: float = reach, count: int = count) -> np.ndarray:
            return total / 4 + reach * (2 * rng.random((count, count), np.float32) - 1)

        corners = field[::step, ::step].copy()
        beside = corners + np.roll(corners, -1, 1)
        middles = moved(beside + np.roll(beside, -1, 0))
        field[half::step, half::step] = middles
        field[::step, half::step] = moved(middles + np.roll(middles, 1, 0) + beside)
        field[half::step, ::step] = moved(middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 0))
        step, reach = half, reach / decay**2
    field -= field.min()
    return field / field.max()
