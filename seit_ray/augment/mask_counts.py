"""How many patches are masked and replaced. Imports no torch."""

from __future__ import annotations

import math

__all__ = [
    "MASKED_SHARE",
    "REPLACED_SHARE",
    "check_counts",
    "check_left",
    "check_ratio",
    "least_block",
    "num_masked_of",
    "num_units_at",
    "patch_grid_of",
]

# Of 14x14 patches, as published: 75 masked, 20 replaced, blocks of 16 at least (BEiT, CCViT).
MASKED_SHARE, REPLACED_SHARE, BLOCK_SHARE = 75 / 196, 20 / 196, 16 / 196


def num_units_at(ratio: float, num_patches: int) -> int:
    """Return how many of P units a ratio masks, ceil(P*ratio)."""
    # The small step down keeps 0.55 of 100 at 55, where the product is 55.00000000000001.
    return min(num_patches, math.ceil(num_patches * ratio - 1e-9))


def check_ratio(*, minimum: float, mu: float, std: float, maximum: float) -> None:
    """ValueError for bounds of a mask ratio out of order, a negative std, or a fixed mu (std 0) outside them."""
    if not 0.0 <= minimum <= maximum <= 1.0 or std < 0.0:
        raise ValueError(
            f"mask ratio minimum {minimum}, maximum {maximum}, std {std}; expected "
            "0 <= minimum <= maximum <= 1 and std >= 0; put them in order"
        )
    if std == 0.0 and not minimum <= mu <= maximum:
        raise ValueError(f"fixed mask ratio {mu}; expected {minimum} to {maximum}; move the bounds or the ratio")


def check_left(mask_ratio_min: float, num_patches: int) -> int:
    """How many units never enter the encoder; ValueError where none would."""
    num_dropped = num_units_at(mask_ratio_min, num_patches)
    if mask_ratio_min < 0.0 or num_dropped == num_patches:
        raise ValueError(
            f"mask_ratio_min {mask_ratio_min} of {num_patches} units; expected 0 or more, with a "
            "unit left for the encoder; lower it"
        )
    return num_dropped


def least_block(grid: tuple[int, int], min_cells: int | None = None) -> int:
    """Least area of a rectangle: the given one, or the published share."""
    return max(1, round(grid[0] * grid[1] * BLOCK_SHARE)) if min_cells is None else min_cells


def num_masked_of(grid: tuple[int, int], num_masked: int | None) -> int:
    """How many of h x w patches are masked: so many, or the published share."""
    return max(1, round(grid[0] * grid[1] * MASKED_SHARE)) if num_masked is None else num_masked


def check_counts(grid: tuple[int, int], num_masked: int, num_replaced: int = 0) -> None:
    """ValueError unless a grid has so many patches to mask and, beside them, to replace."""
    cells = grid[0] * grid[1]
    if num_masked < 1 or num_replaced < 0 or num_masked + num_replaced > cells:
        raise ValueError(
            f"{num_masked} masked and {num_replaced} replaced patches of {cells} ({grid[0]}x{grid[1]}); expected 1 or "
            f"more masked, and at most {cells} together; lower num_masked or num_replaced"
        )


def patch_grid_of(grid: tuple[int, int], unit: int) -> tuple[int, int]:
    """Patches of unit x unit cells on a grid; ValueError when they do not tile it."""
    if grid[0] % unit or grid[1] % unit:
        raise ValueError(
            f"grid {grid[0]}x{grid[1]} in patches of {unit}x{unit}; expected a multiple in both; choose another patch "
            "(model.stem_kernel), or crop the grid"
        )
    return grid[0] // unit, grid[1] // unit
