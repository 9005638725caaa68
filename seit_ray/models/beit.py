"""BEiT's encoder: what CCViT and DTM pre-train and a classifier goes on with. B batch, P patches, W width.

Blocks and bias are timm's, so that parameters have the names that BEiT, CCViT, DTM and timm publish.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from timm.models import beit
from timm.models.beit import RelativePositionBias
from torch import Tensor, nn

from seit_ray.models.blocks import LAYER_NORM_EPS, MLP_RATIO, DropPath, StreamNorm, init_trunc_normal, stream
from seit_ray.models.embed import PIXEL_MEAN, PIXEL_STD, CodebookEmbedding, PixelEmbedding, Stem
from seit_ray.models.variants import Size
from seit_ray.models.vit import POOLS

__all__ = ["BeitEncoder", "BeitViT", "code_patch"]

LayerNorm: Any = functools.partial(StreamNorm, eps=LAYER_NORM_EPS)


class Block(beit.Block):
    """BEiT's block of timm, whose layer scales leave the stream in its own type."""

    def __init__(self, dim: int, num_heads: int, *, drop_path: float = 0.0, **settings: Any) -> None:
        super().__init__(dim, num_heads, **settings)
        for name in ("drop_path1", "drop_path2"):
            self.add_module(name, DropPath(drop_path))

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        attended = self.attn(self.norm1(x), shared_rel_pos_bias=shared_rel_pos_bias)
        x = x + self.drop_path1(self.gamma_1.to(x.dtype) * attended)
        return x + self.drop_path2(self.gamma_2.to(x.dtype) * self.mlp(self.norm2(x)))


def code_patch(dim: int) -> int:
    """Side p in pixels of a centroid of 3*p*p values; ValueError where they are no pixels of a square."""
    side = math.isqrt(dim // 3)
    if 3 * side * side != dim:
        raise ValueError(
            f"codes of {dim} values; expected 3*p*p, pixels of a square patch, as a centroid tokenizer has; take a "
            "dataset of one"
        )
    return side


class BeitEncoder(nn.Module):
    """Patches, class token, blocks with layer scale and relative position bias; no absolute positions.

    Inputs are images (`PixelEmbedding`, grid in pixels) or centroid tokens (`CodebookEmbedding`, grid in codes), whose
    rows are standardised as the pixels that they are: a stem of u x u codes then IS the patch embedding of (u*p) x
    (u*p) pixels. `own_bias` gives every block a bias of its own beside the shared one (DTM). Sources: BEiT (Bao et al.,
    arXiv 2106.08254); CCViT, section 3.3.
    """

    channel_mean: Tensor
    channel_std: Tensor

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        size: Size,
        embedding: PixelEmbedding | CodebookEmbedding,
        kernel: int,
        layer_scale: float = 0.1,
        drop_path: float = 0.0,
        own_bias: bool = False,
        masks: bool = False,
    ) -> None:
        super().__init__()
        if layer_scale <= 0:
            raise ValueError(f"layer_scale {layer_scale}; expected more than 0; take 0.1 (large: 1e-5)")
        self.grid = (grid[0], grid[1])
        self.token_emb = embedding
        self.patch_embed = Stem(embedding.dim, size.width, kernel, kernel)
        self.patch_grid = self.patch_embed.patch_grid(self.grid)
        self.num_patches = self.patch_grid[0] * self.patch_grid[1]
        mean, std = pixel_channels(embedding)
        self.register_buffer("channel_mean", mean, persistent=False)
        self.register_buffer("channel_std", std, persistent=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        if masks:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, size.width))
            nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.rel_pos_bias = RelativePositionBias(self.patch_grid, size.num_heads)
        rates = [drop_path * index / max(size.depth - 1, 1) for index in range(size.depth)]
        window = self.patch_grid if own_bias else None
        self.blocks = nn.ModuleList(self.block(size, layer_scale, rate, window) for rate in rates)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        init_blocks(self.blocks)

    @staticmethod
    def block(size: Size, layer_scale: float, rate: float = 0.0, window: tuple[int, int] | None = None) -> Block:
        """A block of this encoder; drop path of that rate, a bias of its own on that window."""
        return Block(
            size.width,
            size.num_heads,
            qkv_bias=True,
            mlp_ratio=MLP_RATIO,
            drop_path=rate,
            init_values=layer_scale,
            norm_layer=LayerNorm,
            window_size=window,
        )

    def embed(self, inputs: Tensor) -> Tensor:
        """Images uint8 [B,3,H,W] or tokens [B,L] -> maps [B,D,h,w]."""
        return self.token_emb.maps(inputs, self.grid)

    def patches(self, maps: Tensor, masked: Tensor | None = None) -> Tensor:
        """Maps [B,D,h,w], masked bool [B,P] -> class token and patches [B,1+P,W]; ValueError for another grid."""
        if tuple(maps.shape[1:]) != (self.token_emb.dim, *self.grid):
            wanted = ",".join(map(str, (self.token_emb.dim, *self.grid)))
            raise ValueError(
                f"maps of shape {list(maps.shape)}; expected [B,{wanted}]; crop or resize them to the model's grid"
            )
        x = self.patch_embed((maps - self.channel_mean) / self.channel_std)
        if masked is not None:
            x = torch.where(masked.unsqueeze(-1), self.mask_token.to(x.dtype), x)
        return stream(torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], dim=1))

    def encode(self, x: Tensor, early: int | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """What `patches` gives -> all tokens after the last block, after block number `early`, and the shared bias."""
        bias, states = self.rel_pos_bias(), None
        for number, block in enumerate(self.blocks, 1):
            x = block(x, shared_rel_pos_bias=bias)
            if number == early:
                states = x
        return x, states, bias


class BeitViT(BeitEncoder):
    """Classifier: `BeitEncoder`, read-out, head; inputs [B,...] -> logits [B,C].

    `pool="mean"`: mean of the patches, then a LayerNorm of its own (`fc_norm`); `pool="cls"`: LayerNorm, class token.
    `fc_norm`, like the head, starts anew after pre-training. An unknown pool or no classes is a ValueError. Source:
    BEiT, fine-tuning.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        size: Size,
        pool: str = "mean",
        head_init_std: float = 2e-5,
        **encoder: object,
    ) -> None:
        super().__init__(size=size, **encoder)  # type: ignore[arg-type]
        if pool not in POOLS:
            raise ValueError(f"pool {pool!r}; expected one of {', '.join(POOLS)}; choose one")
        if num_classes < 1:
            raise ValueError(f"num_classes {num_classes}; expected 1 or more; take it from the token dataset")
        self.pool, self.num_classes = pool, num_classes
        if pool == "mean":
            self.fc_norm = LayerNorm(size.width)
        else:
            self.norm = LayerNorm(size.width)
        self.head = nn.Linear(size.width, num_classes)
        nn.init.normal_(self.head.weight, std=head_init_std)
        nn.init.zeros_(self.head.bias)

    def features_embedded(self, maps: Tensor) -> Tensor:
        """Maps [B,D,h,w] -> what the head reads, [B,W]."""
        x, _, _ = self.encode(self.patches(maps))
        return self.fc_norm(x[:, 1:].mean(dim=1)) if self.pool == "mean" else self.norm(x[:, 0])

    def forward_features(self, inputs: Tensor) -> Tensor:
        """Tokens or images -> what the head reads, [B,W]."""
        return self.features_embedded(self.embed(inputs))

    def patch_features(self, inputs: Tensor) -> Tensor:
        """Tokens or images -> what every patch is after the last block, [B,P,W]."""
        return self.encode(self.patches(self.embed(inputs)))[0][:, 1:]

    def forward_embedded(self, maps: Tensor) -> Tensor:
        """Maps [B,D,h,w] -> logits [B,C]."""
        return self.head(self.features_embedded(maps))

    def forward(self, inputs: Tensor) -> Tensor:
        """Tokens, images (integers) or maps from `embed` (floats) -> logits [B,C]."""
        return self.forward_embedded(inputs if inputs.is_floating_point() else self.embed(inputs))


def pixel_channels(embedding: PixelEmbedding | CodebookEmbedding) -> tuple[Tensor, Tensor]:
    """Mean and deviation [D,1,1] by which maps are standardised; of pixels, which are already, 0 and 1."""
    if isinstance(embedding, PixelEmbedding):
        return torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    values = code_patch(embedding.dim) ** 2
    mean, std = (torch.tensor(of).repeat_interleave(values).view(-1, 1, 1) for of in (PIXEL_MEAN, PIXEL_STD))
    return mean, std


def init_blocks(blocks: nn.ModuleList) -> None:
    """New weights; what is added to the stream is less the deeper a block lies (BEiT, section 2.5)."""
    blocks.apply(init_trunc_normal)
    with torch.no_grad():
        for number, block in enumerate(blocks, 1):
            for weight in (block.get_parameter("attn.proj.weight"), block.get_parameter("mlp.fc2.weight")):
                weight.div_(math.sqrt(2 * number))
