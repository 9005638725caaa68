"""Crops of token grids and maps: resized to a grid by bicubic interpolation, at the centre, at a random place.

A box is (top, left, height, width). Legend: B batch, D width, h x w the map's cells, h' x w' those of the result.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.tokenizers.exact import exact_products

__all__ = ["center_crop", "crop_at", "crop_codes", "crop_resize", "random_boxes"]

CUBIC_A = -0.75
Maps = TypeVar("Maps", Tensor, np.ndarray)


def cubic_taps(t: Tensor) -> Tensor:
    """Weights [...,4] of the cells at -1, 0, 1, 2 for a position t in [0,1) after cell 0 (Keys 1981, a = -0.75)."""

    def near(x: Tensor) -> Tensor:
        return ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0

    def far(x: Tensor) -> Tensor:
        return ((CUBIC_A * x - 5.0 * CUBIC_A) * x + 8.0 * CUBIC_A) * x - 4.0 * CUBIC_A

    return torch.stack([far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)], dim=-1)


def crop_taps(start: Tensor, length: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Cells int64 and their bicubic weights float32, [B,target,4] each, that resize a span [B] of cells to `target`.

    Half-pixel centres, no antialiasing; taps beyond the span take its border cell: crop, then interpolate. Starts
    and lengths may be fractions; the border is then that of the cells which the span touches.
    """
    start, length = start.float().unsqueeze(1), length.float().unsqueeze(1)
    first = start.floor()
    steps = torch.arange(target, device=start.device) + 0.5
    positions = steps * (length / target) - 0.5 + (start - first)
    cell = positions.floor()
    taps = cell.unsqueeze(2) + torch.arange(-1, 3, device=start.device)
    last = (start + length).ceil() - first - 1.0
    taps = taps.clamp(min=0.0).minimum(last.unsqueeze(2)) + first.unsqueeze(2)
    return taps.long(), cubic_taps(positions - cell)


def crop_weights(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """The same as a matrix float32 [B,target,source]."""
    cells, weights = crop_taps(start, length, target)
    return weights.new_zeros(len(start), target, source).scatter_add_(2, cells, weights)


def _check_boxes(boxes: Tensor, num: int) -> None:
    if boxes.shape != (num, 4):
        raise ValueError(
            f"boxes {list(boxes.shape)}; expected [{num},4]; give each sample its top, left, height and width"
        )


def crop_resize(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [B,D,h,w] cropped to a box each, [B,4] within the map, and resized to `size`: [B,D,h',w'], channels last.

    As F.interpolate(mode="bicubic", align_corners=False) on every cropped sample, in one call: two batched matrix
    products, in the maps' own precision whatever autocast and TF32 say. Integer maps, and boxes of another shape, are
    ValueErrors. Source: SeiT, token random resized crop.
    """
    if maps.ndim != 4 or not maps.is_floating_point():
        raise ValueError(f"maps {maps.dtype} {list(maps.shape)}; expected floats [B,D,h,w]; embed the tokens first")
    _check_boxes(boxes, len(maps))
    num, dim, height, width = maps.shape
    rows = crop_weights(boxes[:, 0], boxes[:, 2], height, size[0]).to(maps.dtype)
    columns = crop_weights(boxes[:, 1], boxes[:, 3], width, size[1]).to(maps.dtype)
    with exact_products(maps.device):
        x = rows @ maps.permute(0, 2, 3, 1).reshape(num, height, width * dim)
        x = columns.unsqueeze(1) @ x.view(num, size[0], width, dim)
    return x.permute(0, 3, 1, 2)


def crop_codes(tokens: Tensor, codebook: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """`crop_resize` of the embedded maps of codes int64 [B,h,w] in a codebook [K,D]: [B,D,h',w'], channels last.

    The same numbers up to rounding in half the time: a row of the result mixes four codes, so the embedded maps are
    never made; only the way along the columns is a matrix product.
    """
    _check_boxes(boxes, len(tokens))
    num, height, _ = tokens.shape
    rows = crop_weights(boxes[:, 0], boxes[:, 2], height, size[0]).to(codebook.dtype)
    taps, weights = crop_taps(boxes[:, 1], boxes[:, 3], size[1])
    codes = tokens.gather(2, taps.view(num, 1, -1).expand(-1, height, -1)).view(-1, 4)
    weights = weights.to(codebook.dtype).unsqueeze(1).expand(-1, height, -1, -1).reshape(-1, 4)
    with exact_products(codebook.device):
        x = F.embedding_bag(codes, codebook, mode="sum", per_sample_weights=weights)
        x = rows @ x.view(num, height, -1)
    return x.view(num, *size, -1).permute(0, 3, 1, 2)


def random_boxes(
    rng: StepRandom,
    grid: tuple[int, int],
    *,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    tries: int = 10,
) -> Tensor:
    """Boxes int64 [B,4] of a share of the grid's cells within `area`, width / height log-uniform within `aspect`.

    The first of `tries` that fits in the grid; the whole grid if none does. Bounds that are not positive and
    rising, an area above 1 and less than one try are ValueErrors. Source: SeiT (ImageNet's usual crop).
    """
    if not (0.0 < area[0] <= area[1] <= 1.0 and 0.0 < aspect[0] <= aspect[1] and tries >= 1):
        raise ValueError(
            f"crop area {area}, aspect {aspect}, tries {tries}; expected 0 < area <= 1, 0 < aspect, each rising, and "
            "a try or more; put the bounds in order"
        )
    height, width = grid
    u = rng.uniform("crop", 4, tries)
    cells = (area[0] + u[:, 0] * (area[1] - area[0])) * (height * width)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = torch.exp(low + u[:, 1] * (high - low))
    heights, widths = (cells / ratio).sqrt().round(), (cells * ratio).sqrt().round()
    fits = (heights >= 1) & (widths >= 1) & (heights <= height) & (widths <= width)
    # min: u is below 1, but its product may round up to the whole number.
    tops = (u[:, 2] * (height - heights + 1)).floor().minimum(height - heights)
    lefts = (u[:, 3] * (width - widths + 1)).floor().minimum(width - widths)
    boxes = torch.stack([tops, lefts, heights, widths], dim=2)
    first = fits.float().argmax(dim=1).view(-1, 1, 1).expand(-1, 1, 4)
    chosen = boxes.gather(1, first).squeeze(1)
    whole = torch.stack([u.new_full((), side) for side in (0, 0, height, width)])  # no copy from the host
    return torch.where(fits.any(dim=1, keepdim=True), chosen, whole).long()


def _check_fits(grid: tuple[int, int], size: tuple[int, int]) -> None:
    if not (1 <= size[0] <= grid[0] and 1 <= size[1] <= grid[1]):
        raise ValueError(
            f"crop to {size[0]}x{size[1]} of a grid of {grid[0]}x{grid[1]}; expected 1x1 to the grid's own size; "
            "lower it or resize"
        )


def center_crop(maps: Maps, size: tuple[int, int]) -> Maps:
    """The middle of tokens [B,h,w] or maps [B,D,h,w], as a view; ValueError when it is larger than they are."""
    height, width = maps.shape[-2:]
    _check_fits((height, width), size)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return maps[..., top : top + size[0], left : left + size[1]]


def crop_at(maps: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens [B,h,w] or maps [B,D,h,w] cut to `size` from a corner (top, left) each, int64 [B,2]."""
    height, width = maps.shape[-2:]
    _check_fits((height, width), size)
    rows = corners[:, :1] + torch.arange(size[0], device=maps.device)
    columns = corners[:, 1:] + torch.arange(size[1], device=maps.device)
    cells = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1)
    flat = maps.flatten(-2)
    cells = cells.view(len(maps), *(1,) * (maps.ndim - 3), -1).expand(*flat.shape[:-1], -1)
    return flat.gather(-1, cells).unflatten(-1, size)
