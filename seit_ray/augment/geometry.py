"""TokenAdapt's geometry: flip, rotate, shift, shear and crop maps, with one draw for maps and pixels (SeiT++).

Lengths are shares of the sides, so that a draw means the same at any resolution. Legend: B batch, D width, H x W the
map's cells.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.augment.crops import crop_resize, random_boxes
from seit_ray.augment.numbers import check_angles
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import check_shares, global_draws
from seit_ray.tokenizers.exact import exact_products

__all__ = ["Geometry", "apply_geometry", "draw_geometry", "warp", "warp_labels", "warp_pixels"]

SNAP = 1e-3  # cells: a box edge this near to a whole cell is that cell, and the rest is rounding of the shares


@dataclass(frozen=True)
class Geometry:
    """A draw for B samples, in the order in which it is applied; torchvision's signs.

    flip bool [B]: left to right. angle [B]: degrees, positive clockwise. translate_x, translate_y [B]: shares of
    width and height, positive right and down. shear_x, shear_y [B]: degrees. boxes [B,4]: top, left, height, width
    of the crop, shares of the sides. All about the centre of the map.
    """

    flip: Tensor
    angle: Tensor
    translate_x: Tensor
    translate_y: Tensor
    shear_x: Tensor
    shear_y: Tensor
    boxes: Tensor

    def center(self, height: float, width: float) -> Geometry:
        """The draw whose result is the middle of this one's: shares of its height and width."""
        top, left, tall, wide = self.boxes.unbind(1)
        parts = [top + tall * (1 - height) / 2, left + wide * (1 - width) / 2, tall * height, wide * width]
        return replace(self, boxes=torch.stack(parts, dim=1))

    def rows(self, index: Tensor) -> Geometry:
        """The draw of some of the samples."""
        return Geometry(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def draw_geometry(
    rng: StepRandom,
    grid: tuple[int, int],
    *,
    flip_prob: float = 0.5,
    affine_prob: float = 0.5,
    link_prob: float = 0.5,
    max_angle: float = 30.0,
    max_translate: float = 0.2,
    max_shear: float = 15.0,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    reference: bool = False,
) -> Geometry:
    """A draw for each row: flip; with affine_prob the chain, each of its five links with link_prob; a crop.

    The crop's box is whole cells of `grid`, drawn within `area` and `aspect`. reference=True: as published, one
    flip and one chain for the whole global batch, shear to one side only, shifts of whole cells; crops are drawn per
    row in both. Probabilities outside [0,1] and limits below 0 are ValueErrors. Source: SeiT++, TokenAdapt.
    """
    check_shares(flip_prob=flip_prob, affine_prob=affine_prob, link_prob=link_prob)
    check_angles(max_angle, max_translate, max_shear)
    draws = global_draws(rng) if reference else rng
    on, value = draws.uniform("geometry links", 7), draws.uniform("geometry values", 5)
    links = (on[:, 1:2] < affine_prob) & (on[:, 2:] < link_prob)
    low = value.new_zeros(5) if reference else value.new_full((5,), -1.0)
    low[:3] = -1.0
    # [-1,1), or [0,1) for one-sided shear
    signed = torch.where(links, low + value * (1.0 - low), 0.0)
    shifts = [signed[:, i] * max_translate for i in (1, 2)]
    if reference:
        shifts = [(shift * side).round() / side for shift, side in zip(shifts, grid[::-1], strict=True)]
    sides = [value.new_full((), side) for side in (*grid, *grid)]
    return Geometry(
        flip=on[:, 0] < flip_prob,
        angle=signed[:, 0] * max_angle,
        translate_x=shifts[0],
        translate_y=shifts[1],
        shear_x=signed[:, 3] * max_shear,
        shear_y=signed[:, 4] * max_shear,
        boxes=random_boxes(rng, grid, area=area, aspect=aspect) / torch.stack(sides),
    )


def _links(geometry: Geometry, height: int, width: int) -> list[Tensor]:
    """Each link's matrix float32 [B,3,3] from a cell of its result to the cell it comes from, about the centre."""
    angle, shear_x, shear_y = (torch.deg2rad(v) for v in (geometry.angle, geometry.shear_x, geometry.shear_y))
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    cos, sin = angle.cos(), angle.sin()

    def matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
        return torch.stack([a, b, c, d, e, f, zero, zero, one], dim=1).view(-1, 3, 3)

    return [
        matrix(cos, sin, zero, -sin, cos, zero),
        matrix(one, zero, -geometry.translate_x * width, zero, one, zero),
        matrix(one, zero, zero, zero, one, -geometry.translate_y * height),
        matrix(one, shear_x.tan(), zero, zero, one, zero),
        matrix(one, zero, zero, shear_y.tan(), one, zero),
    ]


def warp(maps: Tensor, matrix: Tensor, *, faded: bool = False) -> Tensor:
    """Maps [B,D,H,W] resampled: a cell of the result comes from `matrix` [B,3,3] times it, in cells from the centre.

    Bilinear, zero outside. faded=True weighs cells at the border by what they cover a second time, as torchvision
    does when it is given a fill value.
    """
    height, width = maps.shape[-2:]
    # affine_grid counts from -1 to 1 along both sides
    to_cells = [width / 2, height / 2, 1.0]
    rows = [torch.stack([matrix[:, i, j] * (to_cells[j] / to_cells[i]) for j in range(3)], 1) for i in range(2)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(maps.shape), align_corners=False)
    if faded:
        maps = torch.cat([maps, torch.ones_like(maps[:, :1])], dim=1)
    out = F.grid_sample(maps, grid.to(maps.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
    return out[:, :-1] * out[:, -1:] if faded else out


def apply_geometry(maps: Tensor, geometry: Geometry, size: tuple[int, int], *, one_by_one: bool = False) -> Tensor:
    """Maps [B,D,H,W] flipped, warped, cropped and resized to `size`; H x W may be another multiple of the draw's grid.

    The chain is resampled once, by the product of its links; one_by_one=True resamples after each, as published,
    which blurs more, cuts what leaves the map in between and fades borders (`warp`). Samples without a link are not
    resampled. In full precision whatever autocast and TF32 say, for less of it would move cells: maps of 16 bits come
    out in float32. Integer maps are a ValueError.
    """
    if not maps.is_floating_point():
        raise ValueError(f"maps {maps.dtype}; expected floats; convert them first")
    with exact_products(maps.device):
        return _apply(maps.float() if maps.element_size() < 4 else maps, geometry, size, one_by_one)


def _apply(maps: Tensor, geometry: Geometry, size: tuple[int, int], one_by_one: bool) -> Tensor:
    height, width = maps.shape[-2:]
    maps = torch.where(geometry.flip.view(-1, 1, 1, 1), maps.flip(-1), maps)
    chain = (geometry.angle, geometry.translate_x, geometry.translate_y, geometry.shear_x, geometry.shear_y)
    links = _links(geometry, height, width)
    steps = list(zip(chain, links, strict=True))
    if not one_by_one:
        any_link = functools.reduce(torch.add, [value.abs() for value in chain])
        steps = [(any_link, functools.reduce(torch.matmul, links))]
    for value, matrix in steps:
        maps = torch.where((value != 0.0).view(-1, 1, 1, 1), warp(maps, matrix, faded=one_by_one), maps)
    cells = geometry.boxes * torch.stack([geometry.boxes.new_full((), side) for side in (height, width) * 2])
    whole = cells.round()
    boxes = torch.where((cells - whole).abs() < SNAP, whole, cells)
    return crop_resize(maps, boxes, size)


def warp_labels(labels: Tensor, geometry: Geometry, size: tuple[int, int], outside: int) -> Tensor:
    """Integers [B,H,W] under a geometry, [B,*size]: each pixel takes the one that its middle comes from.

    What `apply_geometry` does to the picture beside them in one go, without mixing values; `outside`: of what comes
    from outside the picture.
    """
    height, width = labels.shape[1:]
    top, left, tall, wide = (share.view(-1, 1) for share in geometry.boxes.unbind(1))
    steps = [(torch.arange(side, device=labels.device) + 0.5) / side for side in size]
    y, x = (top + tall * steps[0] - 0.5) * height, (left + wide * steps[1] - 0.5) * width  # from the centre
    y, x = y.unsqueeze(2), x.unsqueeze(1)
    matrix = functools.reduce(torch.matmul, _links(geometry, height, width))[:, :2].unsqueeze(3).unsqueeze(4)
    columns, rows = (
        (matrix[:, i, 0] * x + matrix[:, i, 1] * y + matrix[:, i, 2] + side / 2).floor().long()
        for i, side in ((0, width), (1, height))
    )
    is_inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns = torch.where(geometry.flip.view(-1, 1, 1), width - 1 - columns, columns)
    cells = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    found = labels.flatten(1).gather(1, cells.flatten(1)).unflatten(1, size)
    return torch.where(is_inside, found, torch.full_like(found, outside))


def warp_pixels(images: Tensor, geometry: Geometry, size: tuple[int, int]) -> Tensor:
    """uint8 images [B,3,H,W] under a geometry, uint8 [B,3,*size]; what comes from outside is black (0)."""
    return apply_geometry(images.float(), geometry, size).round_().clamp_(0, 255).to(torch.uint8)
