"""Augmentation of images with label maps, on the device and batched: what moves the one moves the other.

Tokens are cropped as whole tokens; flips, other scales, turns and shears go through pixels or TokenAdapt. Legend: B
rows, T tries, S x S pixels of a map, C classes; boxes are (top, left, height, width) in shares of the sides.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from seit_ray.augment.chain import Augment, Augmented
from seit_ray.augment.crops import crop_at, random_boxes
from seit_ray.augment.geometry import Geometry, apply_geometry, warp_labels, warp_pixels
from seit_ray.augment.numbers import check_in_place
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import check_shares, split_pairs
from seit_ray.images.label_maps import VOID
from seit_ray.tokenizers.codebook import embed_codes, quantize_maps

__all__ = ["ImageMapAugment", "TokenMapAugment", "choose_boxes", "corner_boxes", "largest_shares", "scaled_boxes"]

TRIES = 10  # crops that are drawn until one is not nearly all of one class
LOOK_SIDE = 32  # pixels a side of a crop that are looked at for it


def corner_boxes(rng: StepRandom, grid: tuple[int, int], out_grid: tuple[int, int], tries: int = TRIES) -> Tensor:
    """Boxes float32 [B,T,4] of out_grid whole cells of the grid, anywhere in it."""
    (height, width), (rows, columns) = grid, out_grid
    tops = rng.integers("map crop top", height - rows + 1, tries) / height
    lefts = rng.integers("map crop left", width - columns + 1, tries) / width
    return torch.stack([tops, lefts, torch.full_like(tops, rows / height), torch.full_like(lefts, columns / width)], 2)


def scaled_boxes(
    rng: StepRandom,
    grid: tuple[int, int],
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
    tries: int = TRIES,
) -> Tensor:
    """Boxes float32 [B,T,4] of `random_boxes`; further tries have the numbers of rows beyond the batch."""
    further = torch.arange(tries, device=rng.rows.device) * rng.global_batch_size
    rows = (rng.rows.unsqueeze(1) + further).flatten()
    boxes = random_boxes(rng.at(rows), grid, area=area, aspect=aspect).float()
    sides = torch.stack([boxes.new_full((), side) for side in (*grid, *grid)])
    return (boxes / sides).unflatten(0, (-1, tries))


def largest_shares(maps: Tensor, boxes: Tensor, num_classes: int) -> Tensor:
    """Share [B,T] of the commonest class among what is not void in boxes [B,T,4] of maps uint8 [B,S,S].

    On a grid of LOOK_SIDE points in each box, so that it costs as much for any size.
    """
    height, width = maps.shape[1:]
    steps = (torch.arange(LOOK_SIDE, device=maps.device) + 0.5) / LOOK_SIDE
    top, left, tall, wide = (share.unsqueeze(2) for share in boxes.unbind(2))
    rows = ((top + tall * steps) * height).long().clamp(0, height - 1)
    columns = ((left + wide * steps) * width).long().clamp(0, width - 1)
    cells = rows.unsqueeze(3) * width + columns.unsqueeze(2)  # [B,T,n,n]
    found = maps.flatten(1).gather(1, cells.flatten(1)).long().view(*boxes.shape[:2], -1)
    labels = found.clamp(max=num_classes)  # VOID is the last
    counts = torch.zeros(*boxes.shape[:2], num_classes + 1, device=maps.device)
    counts = counts.scatter_add_(2, labels, torch.ones_like(labels, dtype=counts.dtype))[..., :-1]
    return counts.amax(2) / counts.sum(2).clamp(min=1)


def choose_boxes(maps: Tensor, boxes: Tensor, num_classes: int, max_share: float, flip: Tensor | None = None) -> Tensor:
    """Of boxes [B,T,4] the first [B,4] in which no class has more than a share; the one with the least if all have.

    flip: bool [B], of which rows the boxes are those of the flipped picture. Source: the crop of the published frame,
    at most 75 % of one class.
    """
    if max_share >= 1 or boxes.shape[1] == 1:
        return boxes[:, 0]
    seen = boxes
    if flip is not None:
        mirrored = torch.stack([boxes[..., 0], 1 - boxes[..., 1] - boxes[..., 3], boxes[..., 2], boxes[..., 3]], 2)
        seen = torch.where(flip.view(-1, 1, 1), mirrored, boxes)
    shares = largest_shares(maps, seen, num_classes)
    fits = shares <= max_share
    chosen = torch.where(fits.any(1), fits.float().argmax(1), shares.argmin(1))
    return boxes.gather(1, chosen.view(-1, 1, 1).expand(-1, 1, 4)).squeeze(1)


class TokenMapAugment:
    """Tokens int64 [B,L] with label maps uint8 [B,S,S] -> the same of a crop, as `chain` has it set up.

    The chain's own synonyms and colours act as they are. Rows that do not go through TokenAdapt or pixels are cropped
    to the chain's out_grid of whole tokens; those that do are flipped and turned as well, and cropped to
    crop_area where random_crop is on. A chain that exchanges squares or mixes samples, and maps that the grid does
    not tile, are a ValueError. Source: SeiT++, TokenAdapt, for a class a pixel.
    """

    def __init__(self, chain: Augment, *, num_classes: int, max_share: float = 0.75) -> None:
        check_shares(max_share=max_share)
        check_in_place(chain.settings, adapts=chain.token_adapt is not None)
        self.chain, self.num_classes, self.max_share = chain, num_classes, max_share
        s = chain.settings
        self.embeds = s.changes_colors or chain.token_adapt is not None

    @torch.no_grad()
    def __call__(self, tokens: Tensor, maps: Tensor, rng: StepRandom) -> Augmented:
        """Augment this rank's rows."""
        chain, s = self.chain, self.chain.settings
        chain.check_batch(tokens, maps, rng)
        if maps.shape[1] % s.grid[0] or maps.shape[2] % s.grid[1]:
            raise ValueError(
                f"label maps {list(maps.shape)} of a grid of {s.grid[0]}x{s.grid[1]}; expected sides that it divides; "
                "read them at the dataset's image_size"
            )
        if s.changes_tokens:
            tokens = chain.edit_tokens(tokens, rng)
        tokens = tokens.unflatten(1, s.grid)
        if not self.embeds:
            cut, maps = self.cropped(tokens, maps, rng)
            return Augmented(cut.flatten(1), maps)
        embedded = embed_codes(tokens, chain.codebook)
        if s.changes_colors:
            embedded = chain.change_colors(embedded, rng)
        if chain.token_adapt is None:
            return self.plain(embedded, maps, rng)
        indices, parts = split_pairs(rng, s.adapt_share), []
        for index, way in zip(indices, (self.plain, self.adapted), strict=True):
            if len(index):
                parts.append(way(embedded[index], maps[index], rng.at(rng.rows[index])))
        order = torch.cat(indices).argsort()
        joined = torch.cat([part.labels for part in parts if part.labels is not None])
        return Augmented(torch.cat([part.inputs for part in parts])[order], joined[order])

    def cropped(self, values: Tensor, maps: Tensor, rng: StepRandom) -> tuple[Tensor, Tensor]:
        """Tokens [B,h,w] or maps of codebook rows [B,D,h,w], and label maps, cut to whole tokens at a random place."""
        s = self.chain.settings
        boxes = choose_boxes(maps, corner_boxes(rng, s.grid, s.result_grid), self.num_classes, self.max_share)
        sides = torch.stack([boxes.new_full((), side) for side in s.grid])
        corners = (boxes[:, :2] * sides).round().long()
        cell = torch.stack([corners.new_full((), maps.shape[i + 1] // s.grid[i]) for i in (0, 1)])
        return crop_at(values, corners, s.result_grid), crop_at(maps, corners * cell, self.size_of(maps))

    def size_of(self, maps: Tensor) -> tuple[int, int]:
        """Pixels of a map that lie below the tokens of the result."""
        s = self.chain.settings
        return (
            maps.shape[1] // s.grid[0] * s.result_grid[0],
            maps.shape[2] // s.grid[1] * s.result_grid[1],
        )

    def plain(self, embedded: Tensor, maps: Tensor, rng: StepRandom) -> Augmented:
        """The way of embedded maps [B,D,h,w] without TokenAdapt."""
        s, (cut, maps) = self.chain.settings, self.cropped(embedded, maps, rng)
        if s.output == "codes":
            cut = quantize_maps(cut, self.chain.codebook, s.metric).flatten(1)
        return Augmented(cut, maps)

    def adapted(self, embedded: Tensor, maps: Tensor, rng: StepRandom) -> Augmented:
        """f, geometry of features and label maps alike, g."""
        s, adapter = self.chain.settings, self.chain.token_adapt
        assert adapter is not None  # else all rows go the plain way
        features = adapter.to_feature(embedded)
        size = (features.shape[2], features.shape[3])
        if s.random_crop:
            boxes = scaled_boxes(rng, size, area=s.crop_area, aspect=s.crop_aspect)
        else:
            boxes = corner_boxes(rng, s.grid, s.result_grid)
        drawn = s.draw_geometry(rng, size)
        chosen = choose_boxes(maps, boxes, self.num_classes, self.max_share, drawn.flip)
        geometry = replace(drawn, boxes=chosen)
        codes = adapter.to_codes(apply_geometry(features, geometry, adapter.map_size, one_by_one=s.reference))
        maps = warp_labels(maps, geometry, self.size_of(maps), VOID)
        return Augmented(codes.flatten(1) if s.output == "codes" else embed_codes(codes, self.chain.codebook), maps)


class ImageMapAugment:
    """Random resized crop and flip of images uint8 [B,3,S,S] with label maps uint8 [B,S,S], of the same size again.

    crop_area is the range of the crop's share, None for no crop. Wrong shares are ValueErrors.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        crop_area: tuple[float, float] | None = (0.25, 1.0),
        crop_aspect: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        max_share: float = 0.75,
    ) -> None:
        check_shares(flip_prob=flip_prob, max_share=max_share)
        self.num_classes, self.crop_area, self.crop_aspect = num_classes, crop_area, crop_aspect
        self.flip_prob, self.max_share = flip_prob, max_share
        if crop_area is not None:  # a draw now, so that wrong ranges are errors before the first step
            random_boxes(StepRandom(0, 0, slice(0, 1), 1), (8, 8), area=crop_area, aspect=crop_aspect)

    @torch.no_grad()
    def __call__(self, images: Tensor, maps: Tensor, rng: StepRandom) -> Augmented:
        """Augment this rank's rows."""
        size = (images.shape[2], images.shape[3])
        flip = rng.uniform("flip") < self.flip_prob
        zero = torch.zeros(len(images), device=images.device)
        if self.crop_area is None:
            boxes = torch.stack([zero, zero, zero + 1, zero + 1], dim=1)
        else:
            drawn = scaled_boxes(rng, size, area=self.crop_area, aspect=self.crop_aspect)
            boxes = choose_boxes(maps, drawn, self.num_classes, self.max_share, flip)
        geometry = Geometry(flip, zero, zero, zero, zero, zero, boxes)
        return Augmented(warp_pixels(images, geometry, size), warp_labels(maps, geometry, size, VOID))
