"""CCViT: the code and the pixels of corrupted patches, by two branches of one encoder.

Legend: B batch, P patches of U codes (u x u), K codes of D values, Q positions that are asked for, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seit_ray.models.beit import BeitEncoder, LayerNorm
from seit_ray.models.blocks import init_trunc_normal
from seit_ray.models.embed import CodebookEmbedding, PixelEmbedding
from seit_ray.models.variants import Size, early_layers_of

__all__ = ["CentroidModel", "Judge"]

# (tokens before the head [N,W], its weight [U*K,W] and bias [U*K]) -> anything
Judge = Callable[[Tensor, Tensor, Tensor], Any]


class CentroidModel(BeitEncoder):
    """Branch 1: the last block's patches -> norm -> scores of the K codes. Branch 2: [class token of the last block;
    patches after block `early_layers`] -> `head_layers` more blocks -> norm -> pixels, standardised a patch.

    With `shared_head` branch 2 gives scores too, by norm and head of branch 1. `morph_dim` adds a linear map of all
    patches, what DTM compares. Nothing is predicted from the class token. Source: CCViT, section 3.3; the names are
    those of its release.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        num_codes: int,
        code_dim: int,
        size: Size,
        embedding: PixelEmbedding | CodebookEmbedding,
        kernel: int,
        unit: int = 1,
        early_layers: int | None = None,
        head_layers: int = 2,
        layer_scale: float = 0.1,
        shared_head: bool = False,
        morph_dim: int = 0,
    ) -> None:
        super().__init__(grid=grid, size=size, embedding=embedding, kernel=kernel, layer_scale=layer_scale, masks=True)
        if head_layers < 1:
            raise ValueError(f"head_layers {head_layers}; expected 1 or more; raise ccvit.head_layers")
        self.unit, self.num_codes, self.shared_head = unit, num_codes, shared_head
        self.early_layers = early_layers_of(size.depth, early_layers)
        self.norm = LayerNorm(size.width)
        self.lm_head = nn.Linear(size.width, unit * unit * num_codes)
        self.cls_pt_layers = nn.ModuleList(self.block(size, layer_scale) for _ in range(head_layers))
        new: list[nn.Module] = [self.lm_head, self.cls_pt_layers]
        if not shared_head:
            self.cls_pt_norm = LayerNorm(size.width)
            self.cls_pt_lm_head = nn.Linear(size.width, unit * unit * code_dim)
            new.append(self.cls_pt_lm_head)
        self.morph_head = nn.Linear(size.width, morph_dim) if morph_dim else None
        for module in [*new, self.morph_head]:
            if module is not None:
                module.apply(init_trunc_normal)

    def scores(self, x: Tensor) -> Tensor:
        """Tokens [B,Q,W] -> scores of their codes [B,Q,U,K]."""
        return self.lm_head(self.norm(x)).unflatten(-1, (self.unit * self.unit, self.num_codes))

    def told(self, x: Tensor, judge: Judge | None) -> Any:
        """Scores of tokens [B,Q,W], or what a judge says of them."""
        if judge is None:
            return self.scores(x)
        return judge(self.norm(x).flatten(0, 1), self.lm_head.weight, self.lm_head.bias)

    def forward(
        self, maps: Tensor, masked: Tensor, positions: Tensor, judge: Judge | None = None
    ) -> tuple[Any, Any, Tensor | None]:
        """Corrupted maps [B,D,h,w], masked bool [B,P], positions int64 [B,Q] -> what is told of these positions.

        Scores [B,Q,U,K]; pixels [B,Q,U*D], or scores again; features of all patches [B,P,morph_dim] or None. With a
        `judge`, scores are not made, and what it says stands in their place.
        """
        last, early, bias = self.encode(self.patches(maps, masked), self.early_layers)
        assert early is not None  # early_layers lies within the blocks
        places = 1 + positions.unsqueeze(-1).expand(-1, -1, last.shape[-1])
        first = self.told(last.gather(1, places), judge)
        x = torch.cat([last[:, :1], early[:, 1:]], dim=1)
        for block in self.cls_pt_layers:
            x = block(x, shared_rel_pos_bias=bias)
        x = x.gather(1, places)
        second = self.told(x, judge) if self.shared_head else self.cls_pt_lm_head(self.cls_pt_norm(x))
        features = None if self.morph_head is None else self.morph_head(self.norm(last[:, 1:]))
        return first, second, features

    def patch_features(self, inputs: Tensor) -> Tensor:
        """Tokens or images -> every patch after the last norm, with nothing masked, [B,P,W]."""
        return self.norm(self.encode(self.patches(self.embed(inputs)))[0][:, 1:])

    def features(self, inputs: Tensor) -> Tensor:
        """Tokens or images -> [B,W]: mean of the patches after the last norm, with nothing masked."""
        return self.patch_features(inputs).mean(dim=1)
