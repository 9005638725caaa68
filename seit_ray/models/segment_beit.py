"""The segmenter with the blocks of BEiT, CCViT and DTM. B batch, P = h*w patches, W width, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seit_ray.models.beit import BeitEncoder
from seit_ray.models.segment_heads import SegmentHead
from seit_ray.models.segmenter import as_maps
from seit_ray.models.variants import taken_blocks

__all__ = ["SegmentBeit"]


class SegmentBeit(BeitEncoder):
    """Images or centroid tokens, or maps from `embed` -> (logits [B,C,h',w'], auxiliary ones in training, else None).

    Source: the frame in which BEiT and CCViT report ADE-20k.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        taken: Sequence[int] | None = None,
        head: str = "uper",
        head_width: int = 256,
        aux_width: int = 256,
        **encoder: Any,
    ) -> None:
        super().__init__(**encoder)
        self.num_classes = num_classes
        self.taken = taken_blocks(len(self.blocks), taken)
        self.head = SegmentHead(head, encoder["size"].width, head_width, aux_width, num_classes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens, images (integers) or maps from `embed` (floats)."""
        maps = inputs if inputs.is_floating_point() else self.embed(inputs)
        x, bias, found = self.patches(maps), self.rel_pos_bias(), {}
        for number, block in enumerate(self.blocks, 1):
            x = block(x, shared_rel_pos_bias=bias)
            if number in self.taken:
                found[number] = as_maps(x[:, 1:], self.patch_grid)
        return self.head([found[number] for number in self.taken])
