"""How many patches are masked and replaced. Imports no torch."""

from __future__ import annotations

__all__ = ["MASKED_SHARE", "REPLACED_SHARE", "check_counts", "least_block", "num_masked_of", "patch_grid_of"]

# Of 14x14 patches, as published: 75 masked, 20 replaced, blocks of 16 at least (BEiT, CCViT).
MASKED_SHARE, REPLACED_SHARE, BLOCK_SHARE = 75 / 196, 20 / 196, 16 / 196


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
