"""Stored tokens for a model with a smaller grid. B rows, L = h*w tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from seit_ray.augment.crops import Maps, center_crop
from seit_ray.batches.batch import Batch
from seit_ray.batches.contract import Samples


def center_crop_tokens(tokens: Maps, grid: tuple[int, int], out_grid: tuple[int, int]) -> Maps:
    """Tokens [B,L] of a grid -> those of the `out_grid` in its middle, [B,l]; an array gives an array.

    Where the margin is odd, the larger half is at the bottom and right. ValueError for tokens of another grid, and for
    an `out_grid` that is larger.
    """
    if tokens.ndim != 2 or tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"tokens of shape {list(tokens.shape)} on a grid of {grid[0]}x{grid[1]}; expected "
            f"[B,{grid[0] * grid[1]}]; pass the grid of the token dataset"
        )
    cropped = center_crop(tokens.reshape(len(tokens), *grid), out_grid)
    return cropped.reshape(len(tokens), out_grid[0] * out_grid[1])


@dataclass(frozen=True)
class Centred:
    """Tokens of a store, of which a few rows are read, as the `out_grid` in the middle of their grid."""

    store: Samples
    grid: tuple[int, int]
    out_grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.store)

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 [N]."""
        return self.store.labels

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows, cropped."""
        whole = self.store.batch(rows, device)
        return replace(whole, inputs=center_crop_tokens(whole.inputs, self.grid, self.out_grid))
