"""Emb-Noise: normal noise on embedded tokens, an offset a channel and a number an element (SeiT)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seit_ray.augment.random import StepRandom

__all__ = ["add_noise", "draw_noise", "random_noise"]

CHUNK_ELEMENTS = 1 << 18  # noise drawn at a time on the CPU, so that it stays in its cache


def add_noise(
    maps: Tensor,
    chosen: Tensor,
    per_channel: Tensor,
    per_element: Tensor,
    *,
    scale: float = 1.0,
    std: float = 1.0,
    units: Tensor | None = None,
) -> Tensor:
    """Maps [B,D,h,w] + scale * per_channel [B,D] + std * per_element [B,D,h,w] in the rows `chosen` (bool [B]).

    units [D]: what 1 is in each channel; 1 itself by default.
    """
    noise = per_element * std + (per_channel * scale)[:, :, None, None]
    if units is not None:
        noise = noise * units[:, None, None]
    return torch.where(chosen.view(-1, 1, 1, 1), maps + noise.to(maps.dtype), maps)


def draw_noise(rng: StepRandom, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Standard normal numbers, one a channel [B,D] and one an element [B,D,h,w] (channels last), of shape (D,h,w)."""
    dim, height, width = shape
    per_element = rng.coarse_normal("noise element", height, width, dim).permute(0, 3, 1, 2)
    return rng.normal("noise channel", dim), per_element


def random_noise(
    maps: Tensor,
    chosen: Tensor,
    rng: StepRandom,
    *,
    scale: float = 1.0,
    std: float = 1.0,
    units: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Maps [B,D,h,w] with noise of its own for each row that is `chosen` (bool [B]); the others as they are.

    units [D]: what scale and std of 1 are in each channel; 1 itself by default.
    inplace=True may change `maps` themselves. A negative scale or std is a ValueError. Source: SeiT, Emb-Noise
    (scale = std = 1, half of the batch).
    """
    if scale < 0.0 or std < 0.0:
        raise ValueError(f"noise scale {scale}, std {std}; expected 0 or more; make them positive")
    if maps.device.type != "cpu":
        return add_noise(maps, chosen, *draw_noise(rng, maps.shape[1:]), scale=scale, std=std, units=units)
    # On the CPU asking for the chosen rows waits for nothing, and drawing is most of the work.
    if not len(maps):
        return maps
    maps = maps if inplace else maps.clone()
    for rows in chosen.nonzero().squeeze(1).split(max(1, CHUNK_ELEMENTS // maps[0].numel())):
        per_channel, noise = draw_noise(rng.at(rng.rows[rows]), maps.shape[1:])
        noise = noise.mul_(std).add_((per_channel * scale)[:, :, None, None])
        if units is not None:
            noise = noise.mul_(units[:, None, None])
        # channels last, as the noise is drawn and the crops come: a plain view for both
        maps.permute(0, 2, 3, 1).index_add_(0, rows, noise.permute(0, 2, 3, 1).to(maps.dtype))
    return maps
