"""How close decoded images come to the originals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Images are compared in slices, so that the wider integers of a whole dataset never lie in memory at once.
SLICE_ROWS = 256


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of uint8 images a against b, of one shape: inf when they are equal.

    Takes tensors on one device, or arrays. The squared error is averaged over all images before the
    logarithm, so equal images among others do not make it infinite. Raises ValueError for other types,
    unequal or empty shapes.
    """
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    if a.dtype != torch.uint8 or b.dtype != torch.uint8:
        raise ValueError(f"images of type {a.dtype} and {b.dtype}; expected uint8; scale to 0-255 and round")
    if a.shape != b.shape or a.ndim == 0 or a.numel() == 0:
        raise ValueError(
            f"images of shape {tuple(a.shape)} and {tuple(b.shape)}; expected one shape, not empty; "
            "compare each image with its own reconstruction"
        )
    return psnr_of_error(squared_error(a, b), a.numel())


def squared_error(a: Tensor, b: Tensor) -> int:
    """Summed over uint8 images of one shape; exact."""
    total = 0  # integers: the same whatever the order of the slices
    for i in range(0, len(a), SLICE_ROWS):
        difference = a[i : i + SLICE_ROWS].int() - b[i : i + SLICE_ROWS].int()
        total += int(difference.square().sum())
    return total


def psnr_of_error(error: int, num_values: int) -> float:
    """PSNR in dB of a summed squared error of `num_values` uint8 values: inf for none."""
    return 10 * math.log10(255**2 * num_values / error) if error else math.inf
