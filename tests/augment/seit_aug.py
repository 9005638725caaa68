"""Recorded numbers of SeiT's and SeiT++'s augmentations."""

import functools
from pathlib import Path

import numpy as np
import torch


@functools.cache
def recording():
    return np.load(Path(__file__).parents[1] / "golden" / "seit_aug.npz")


def golden(key: str) -> torch.Tensor:
    """A recorded array; integers as int64."""
    value = recording()[key]
    return torch.from_numpy(value.astype(np.int64) if value.dtype.kind == "u" else value)
