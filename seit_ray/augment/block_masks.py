"""Which patches are masked block by block, and which are replaced (BEiT, CCViT). B rows, P = h*w patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seit_ray.augment.mask_counts import check_counts, least_block
from seit_ray.augment.random import StepRandom

__all__ = ["block_masks", "positions_of", "replaced_units"]

TRIES = 10  # rectangles that are tried for each that is placed
ROUNDS = 16  # rectangles at most; see test_so_many_rounds_are_enough


def block_masks(
    rng: StepRandom,
    grid: tuple[int, int],
    num_masked: int,
    *,
    min_cells: int | None = None,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Tensor:
    """Masks bool [B,P] of exactly `num_masked` patches, True = masked, a draw of its own for every row.

    Rectangles of area uniform between `min_cells` and what is left to mask, height / width log-uniform, strictly
    smaller than the grid: of ten draws the first that covers something new and no more than is left. Where none of ten
    does, what is missing is drawn one by one. Nothing waits for the device. Wrong bounds are ValueErrors. Source: BEiT,
    section 2.3; CCViT.
    """
    check_counts(grid, num_masked)
    height, width = grid
    least = least_block(grid, min_cells)
    if least < 1 or not 0.0 < aspect[0] <= aspect[1]:
        raise ValueError(
            f"blocks of {least} patches or more, aspect {aspect}; expected 1 or more and 0 < aspect, rising; correct it"
        )
    numbers = rng.uniform("block mask", ROUNDS, TRIES, 4)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    shape = torch.exp(0.5 * (low + numbers[..., 1] * (high - low)))
    mask = torch.zeros(len(numbers), height, width, dtype=torch.bool, device=numbers.device)
    open_rows = torch.ones(len(numbers), 1, dtype=torch.bool, device=numbers.device)
    rows, columns = torch.arange(height, device=mask.device), torch.arange(width, device=mask.device)
    for number in range(ROUNDS):
        left = num_masked - mask.sum(dim=(1, 2)).unsqueeze(1)  # [B,1]
        area = (least + numbers[:, number, :, 0] * (left - least)).sqrt()
        high_, wide = (area * shape[:, number]).round(), (area / shape[:, number]).round()
        top = (numbers[:, number, :, 2] * (height - high_ + 1)).floor().clamp(min=0)
        side = (numbers[:, number, :, 3] * (width - wide + 1)).floor().clamp(min=0)
        bottom, right = (top + high_).clamp(max=height), (side + wide).clamp(max=width)
        new = high_ * wide - covered(mask, top, bottom, side, right)
        fits = (high_ < height) & (wide < width) & (new > 0) & (new <= left) & open_rows
        open_rows = fits.any(dim=1, keepdim=True)
        first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
        a, b, c, d = (edge.gather(1, first) for edge in (top, bottom, side, right))
        inside = ((rows >= a) & (rows < b)).unsqueeze(2) & ((columns >= c) & (columns < d)).unsqueeze(1)
        mask |= inside & open_rows.unsqueeze(2)
        if mask.device.type == "cpu" and not open_rows.any():  # elsewhere the host would wait to know
            break
    # A masked patch comes before all others, and those in an order of their own.
    order = mask.flatten(1) + rng.uniform("block mask rest", height * width)
    chosen = order.argsort(dim=1, descending=True, stable=True)[:, :num_masked]
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, chosen, True)


def covered(mask: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Masked cells [B,T] inside rectangles [B,T] of masks bool [B,h,w], by sums over all corners."""
    width = mask.shape[2] + 1
    sums = torch.nn.functional.pad(mask.float().cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)

    def upto(row: Tensor, column: Tensor) -> Tensor:
        return sums.gather(1, (row * width + column).long())

    return upto(bottom, right) - upto(top, right) - upto(bottom, left) + upto(top, left)


def replaced_units(rng: StepRandom, masked: Tensor, num_replaced: int) -> Tensor:
    """Of the patches that are not masked [B,P], `num_replaced` in each row, all equally likely: bool [B,P].

    There must be so many (`check_counts`). Source: CCViT, section 3.2.
    """
    order = masked + rng.uniform("replaced", masked.shape[1])  # masked ones last
    chosen = order.argsort(dim=1, stable=True)[:, :num_replaced]
    return torch.zeros_like(masked).scatter_(1, chosen, True)


def positions_of(mask: Tensor, num: int) -> Tensor:
    """Numbers int64 [B,num] of the cells that are set, num in every row of mask bool [B,P], in raster order."""
    return (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :num]
