"""What objectives show of a batch. B rows, T tokens on a grid."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from seit_ray.objectives.morphing import Groups, group_means

__all__ = ["groups_picture", "uint8_of"]


def uint8_of(images: Tensor) -> Tensor:
    """Pixels float in [0,1] -> uint8."""
    return images.mul(255).round().clamp(0, 255).byte()


def groups_picture(images: Tensor, groups: Groups, grid: tuple[int, int]) -> Tensor:
    """Images float [B,3,H,W] with every token's square in the mean colour of its group: groups show as regions."""
    colours = F.adaptive_avg_pool2d(images, grid)  # [B,3,h,w]
    means = group_means(colours.flatten(2).transpose(1, 2), groups).transpose(1, 2).unflatten(2, grid)
    return F.interpolate(means, images.shape[2:], mode="nearest")
