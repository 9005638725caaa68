"""Stored tokens for a model with a smaller grid. B rows, L = h*w tokens."""

from __future__ import annotations

from seit_ray.augment.crops import Maps, center_crop


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
