"""Vision transformer on tokens: SeiT (codebook rows) and SeiT++ fine-tuning (learned token embedding)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seit_ray.models.blocks import LAYER_NORM_EPS, StreamNorm, build_blocks, init_trunc_normal, stream
from seit_ray.models.embed import CodebookEmbedding, PixelEmbedding, Stem, TokenEmbedding
from seit_ray.models.variants import Size

__all__ = ["POOLS", "TokenViT"]

POOLS = ("mean", "cls")


class TokenViT(nn.Module):
    """Classifier of token grids: embedding -> stem -> class token, positions -> blocks -> read-out -> head.

    Shapes: tokens [B,L] or [B,h,w], L = h*w -> logits [B,C]. `pool="mean"` takes the mean of the P patch
    tokens and THEN the LayerNorm (the class token takes part in attention only); `pool="cls"` takes the
    LayerNorm and then the class token. `stem_layers` convolutions, `stem_width` wide, come before the stem, of
    which the first see rows of a codebook as `pixel_side` x `pixel_side` pixels.
    `drop_path` is the rate of the last block; `head_init_std` 2e-5 is what SeiT++ fine-tunes with. A grid that
    the stem does not tile, an unknown pool or no classes is a ValueError. Source: SeiT, Stem-Adaptor; SeiT++,
    fine-tuning.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        num_classes: int,
        size: Size,
        embedding: TokenEmbedding | CodebookEmbedding | PixelEmbedding,
        kernel: int,
        stride: int,
        padding: int = 0,
        stem_layers: int = 0,
        stem_width: int = 64,
        pixel_side: int = 1,
        pool: str = "mean",
        drop_path: float = 0.0,
        head_init_std: float = 0.02,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool {pool!r}; expected one of {', '.join(POOLS)}; choose one")
        if num_classes < 1:
            raise ValueError(f"num_classes {num_classes}; expected 1 or more; take it from the token dataset")
        self.grid, self.pool, self.num_classes = (grid[0], grid[1]), pool, num_classes
        self.token_emb = embedding
        self.patch_embed = Stem(
            embedding.dim,
            size.width,
            kernel,
            stride,
            padding,
            layers=stem_layers,
            layer_width=stem_width,
            pixel_side=pixel_side,
        )
        self.patch_grid = self.patch_embed.patch_grid(self.grid)
        self.num_patches = self.patch_grid[0] * self.patch_grid[1]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.num_patches, size.width))
        self.blocks = build_blocks(size.width, size.depth, size.num_heads, drop_path=drop_path)
        self.norm = StreamNorm(size.width, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(size.width, num_classes)
        self._init_weights(head_init_std)

    def _init_weights(self, head_init_std: float) -> None:
        # The stem keeps the convolution's own draw, which looks at its fan-in.
        self.blocks.apply(init_trunc_normal)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.head.weight, std=head_init_std)
        nn.init.zeros_(self.head.bias)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] or [B,h,w], or images -> embedded maps [B,D,h,w], where noise and the mixing of samples act."""
        return self.token_emb.maps(tokens, self.grid)

    def features_embedded(self, maps: Tensor) -> Tensor:
        """Embedded maps [B,D,h,w] -> what the head reads, [B,width]; another shape is a ValueError."""
        expected = (self.token_emb.dim, *self.grid)
        if tuple(maps.shape[1:]) != expected:
            raise ValueError(
                f"maps of shape {list(maps.shape)}; expected [B,{','.join(map(str, expected))}]; "
                "crop or resize them to the model's grid"
            )
        return self._pooled(self._encode(self.patches(maps)))

    def _pooled(self, x: Tensor) -> Tensor:
        return self.norm(x[:, 1:].mean(dim=1) if self.pool == "mean" else x[:, 0])

    def logits_of(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Patches of the stem [B,P,width], or those at places `kept` [B,V] of them alone -> logits [B,C]."""
        return self.head(self._pooled(self._encode(patches, kept)))

    def patches(self, maps: Tensor) -> Tensor:
        """Embedded maps -> what the stem makes of them, [B,P,width], before positions."""
        if isinstance(self.token_emb, CodebookEmbedding):
            maps = self.token_emb.standardized(maps)
        return self.patch_embed(maps)

    def _encode(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Patches of the stem, all or those `kept` -> class token and patches after the last block, [B,1+P,width]."""
        x = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.pos_embed
        if kept is not None:
            places = torch.cat([torch.zeros_like(kept[:, :1]), kept + 1], dim=1)  # the class token stays
            x = x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))
        x = stream(x)
        for block in self.blocks:
            x = block(x)
        return x

    def patch_features(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] or [B,h,w], or images -> every patch after the last norm, [B,P,width]."""
        return self.norm(self._encode(self.patches(self.embed(tokens)))[:, 1:])

    def forward_features(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] or [B,h,w] -> what the head reads, [B,width]."""
        return self.features_embedded(self.embed(tokens))

    def forward_embedded(self, maps: Tensor) -> Tensor:
        """Embedded maps [B,D,h,w] -> logits [B,C]."""
        return self.head(self.features_embedded(maps))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] or [B,h,w] (integers), or maps from `embed` [B,D,h,w] (floats) -> logits [B,C].

        Maps come this way too, since wrappers such as DistributedDataParallel see nothing but `forward`.
        """
        return self.forward_embedded(tokens if tokens.is_floating_point() else self.embed(tokens))
