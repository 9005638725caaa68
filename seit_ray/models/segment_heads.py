"""From patches to a class for each of them and between them: UPerNet, a linear head, an auxiliary head.

Ours, and small: segmentation packages on PyPI expect the pyramid of a convolutional encoder, and a plain ViT gives four
maps of one size. Legend: B batch, W width of the encoder, D of the head, h x w patches, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.models.blocks import LAYER_NORM_EPS
from seit_ray.models.variants import LEVELS

__all__ = ["HEADS", "AuxiliaryHead", "LinearHead", "PyramidHead", "SegmentHead"]

HEADS = ("uper", "linear")
NORM_GROUPS = 8
POOL_SIDES = (1, 2, 3, 6)
DROPOUT = 0.1


def convolution(in_width: int, width: int, kernel: int) -> nn.Sequential:
    """A convolution that keeps the size, normalised within a sample: the number of workers does not matter."""
    return nn.Sequential(
        nn.Conv2d(in_width, width, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(NORM_GROUPS, width),
        nn.ReLU(inplace=True),
    )


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [B,D,h,w] at another size, bilinear."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def check_width(name: str, width: int) -> None:
    """ValueError unless the groups of a norm divide a width, with two channels each at least."""
    if width < 2 * NORM_GROUPS or width % NORM_GROUPS:
        raise ValueError(f"{name} {width}; expected a multiple of {NORM_GROUPS} from {2 * NORM_GROUPS} on; change it")


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of maps [B,W,h,w]."""

    def __init__(self, width: int):
        super().__init__(width, eps=LAYER_NORM_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LinearHead(nn.Module):
    """Norm and one linear map of the last block's patches: maps [B,W,h,w] -> logits [B,C,h,w]."""

    def __init__(self, in_width: int, num_classes: int):
        super().__init__()
        self.norm = ChannelNorm(in_width)
        self.classify = nn.Conv2d(in_width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classify(self.norm(maps[-1]))


class AuxiliaryHead(nn.Module):
    """A fully convolutional head on one map [B,W,h,w] -> logits [B,C,h,w]; in training alone.

    Source: the frame that BEiT, MAE and CCViT are measured in, weight 0.4 on the third map.
    """

    def __init__(self, in_width: int, width: int, num_classes: int):
        super().__init__()
        check_width("aux_width", width)
        self.layers = nn.Sequential(convolution(in_width, width, 3), nn.Dropout2d(DROPOUT))
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.classify(self.layers(maps))


class PyramidHead(nn.Module):
    """UPerNet (Xiao et al., arXiv 1807.10221) on four maps of a plain ViT, [B,W,h,w] each -> logits [B,C,4h,4w].

    They are brought to 4, 2, 1 and 1/2 times their size, as BEiT does (arXiv 2106.08254); the coarsest is pooled at
    sides of 1, 2, 3 and 6, the others take it up on the way to the finest, and all four together give the logits.
    """

    def __init__(self, in_width: int, width: int, num_classes: int):
        super().__init__()
        check_width("head_width", width)
        self.norms = nn.ModuleList(ChannelNorm(in_width) for _ in range(LEVELS))
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_width, in_width, 2, 2),
                    ChannelNorm(in_width),
                    nn.GELU(),
                    nn.ConvTranspose2d(in_width, in_width, 2, 2),
                ),
                nn.ConvTranspose2d(in_width, in_width, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2, ceil_mode=True),
            ]
        )
        self.laterals = nn.ModuleList(convolution(in_width, width, 1) for _ in range(LEVELS - 1))
        self.pools = nn.ModuleList(convolution(in_width, width, 1) for _ in POOL_SIDES)
        self.pooled = convolution(in_width + len(POOL_SIDES) * width, width, 3)
        self.smooth = nn.ModuleList(convolution(width, width, 3) for _ in range(LEVELS - 1))
        self.fuse = nn.Sequential(convolution(LEVELS * width, width, 3), nn.Dropout2d(DROPOUT))
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *fine, coarse = (scale(norm(level)) for level, norm, scale in zip(maps, self.norms, self.scales, strict=True))
        found = [lateral(level) for lateral, level in zip(self.laterals, fine, strict=True)]
        found.append(self.pyramid(coarse))
        for level in range(LEVELS - 2, -1, -1):
            found[level] = found[level] + resized(found[level + 1], found[level].shape[2:])
        smooth = [layer(level) for layer, level in zip(self.smooth, found, strict=False)] + [found[-1]]
        size = smooth[0].shape[2:]
        return self.classify(self.fuse(torch.cat([smooth[0], *(resized(level, size) for level in smooth[1:])], dim=1)))

    def pyramid(self, maps: Tensor) -> Tensor:
        """The coarsest map with its means over squares of several sizes."""
        size = maps.shape[2:]
        means = [
            resized(layer(F.adaptive_avg_pool2d(maps, side)), size)
            for side, layer in zip(POOL_SIDES, self.pools, strict=True)
        ]
        return self.pooled(torch.cat([maps, *means], dim=1))


class SegmentHead(nn.Module):
    """Maps of the blocks -> (logits, the auxiliary logits in training, else None).

    By the head `uper` or `linear`, and an auxiliary one unless aux_width is 0; others are a ValueError.
    """

    def __init__(self, head: str, in_width: int, width: int, aux_width: int, num_classes: int):
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"head {head!r}; expected one of {', '.join(HEADS)}; choose one")
        self.main = PyramidHead(in_width, width, num_classes) if head == "uper" else LinearHead(in_width, num_classes)
        self.aux = AuxiliaryHead(in_width, aux_width, num_classes) if aux_width else None

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        aux = self.aux(maps[-2]) if self.aux is not None and self.training else None
        return self.main(maps), aux
