"""ColorAdapt: a sample takes the mean and deviation of another's channels in embedding space (SeiT++; AdaIN)."""

from __future__ import annotations

import torch
from torch import Tensor

from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import partners

__all__ = ["adapt_colors", "random_color_adapt"]

# Below this share of its largest value a channel's deviation is rounding, which must not be blown up to a partner's.
CONSTANT = 1e-6


def _statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation [B,D,1,1] over the positions; the deviation of one position is 0."""
    correction = 1 if maps.shape[2] * maps.shape[3] > 1 else 0
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=correction, keepdim=True)
    return mean, variance.sqrt()


def adapt_colors(maps: Tensor, styles: Tensor) -> Tensor:
    """Maps [B,D,h,w] with the mean and deviation, channel by channel, of `styles` [B,D,h',w'].

    A constant channel becomes the partner's mean: it has no pattern to scale. In float32. Source: SeiT++, ColorAdapt.
    """
    mean, std = _statistics(maps.float())
    style_mean, style_std = _statistics(styles.float())
    constant = std <= CONSTANT * maps.float().abs().amax(dim=(2, 3), keepdim=True)
    ratio = torch.where(constant, 0.0, style_std / torch.where(constant, 1.0, std))
    return ((maps.float() - mean) * ratio + style_mean).to(maps.dtype)


def random_color_adapt(maps: Tensor, chosen: Tensor, rng: StepRandom) -> Tensor:
    """Maps [B,D,h,w] whose `chosen` rows (bool [B]) take the colours of their partners; rows without one stay.

    The statistics are those of the partner as it came in, whether it is chosen itself or not.
    """
    index = partners(rng.rows)
    chosen = chosen & (index != torch.arange(len(index), device=index.device))
    if maps.device.type != "cpu":
        return torch.where(chosen.view(-1, 1, 1, 1), adapt_colors(maps, maps[index]), maps)
    rows = chosen.nonzero().squeeze(1)  # on the CPU nothing waits: only the chosen rows
    if not len(rows):
        return maps
    out = maps.clone()
    out[rows] = adapt_colors(maps[rows], maps[index[rows]])
    return out
