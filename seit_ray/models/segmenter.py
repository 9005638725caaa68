"""An encoder of tokens or pixels whose blocks' patches a head turns into a class a pixel.

Parameters are named as those of the classifiers, the head's below `head.`, so that whatever a classifier starts from
does for a segmenter too. B batch, P = h*w patches, W width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seit_ray.models.blocks import stream
from seit_ray.models.segment_heads import SegmentHead
from seit_ray.models.variants import taken_blocks
from seit_ray.models.vit import TokenViT

__all__ = ["SegmentViT", "as_maps"]


def as_maps(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches [B,P,W] in raster order -> [B,W,h,w]."""
    return patches.transpose(1, 2).unflatten(2, grid)


class SegmentViT(TokenViT):
    """Tokens [B,L], images, or maps from `embed` [B,D,h,w] -> (logits [B,C,h',w'], auxiliary ones in training)."""

    head: Any

    def __init__(
        self,
        *,
        num_classes: int,
        taken: Sequence[int] | None = None,
        head: str = "uper",
        head_width: int = 256,
        aux_width: int = 256,
        **vit: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **vit)
        self.taken = taken_blocks(len(self.blocks), taken)
        self.head = SegmentHead(head, vit["size"].width, head_width, aux_width, num_classes)

    def forward_embedded(self, maps: Tensor) -> Any:
        """Embedded maps [B,D,h,w] -> what `forward` gives."""
        patches = self.patches(maps)
        x = stream(torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed)
        found = {}
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self.taken:
                found[number] = as_maps((self.norm(x) if number == len(self.blocks) else x)[:, 1:], self.patch_grid)
        return self.head([found[number] for number in self.taken])
