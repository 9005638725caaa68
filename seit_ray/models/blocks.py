"""The pre-norm transformer block of every model here, and how new weights are drawn."""

from __future__ import annotations

from functools import partial

from timm.models.vision_transformer import Block
from torch import nn

__all__ = ["LAYER_NORM_EPS", "build_blocks", "init_trunc_normal", "init_xavier"]

LAYER_NORM_EPS = 1e-6


def build_blocks(
    width: int, depth: int, num_heads: int, *, drop_path: float = 0.0, dropout: float = 0.0
) -> nn.ModuleList:
    """Return `depth` pre-norm blocks [B,L,D] -> [B,L,D]: fused qkv with bias, MLP 4x, exact GELU, eps 1e-6.

    `drop_path` rises linearly from 0 in the first block to the given rate in the last; `dropout` acts on
    attention weights and on what attention and MLP give. Rates outside [0,1) are a ValueError.
    """
    for name, rate in (("drop_path", drop_path), ("dropout", dropout)):
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} {rate}; expected 0 <= rate < 1; lower it")
    return nn.ModuleList(
        Block(
            width,
            num_heads,
            mlp_ratio=4.0,
            qkv_bias=True,
            proj_drop=dropout,
            attn_drop=dropout,
            drop_path=drop_path * index / max(depth - 1, 1),
            norm_layer=partial(nn.LayerNorm, eps=LAYER_NORM_EPS),
        )
        for index in range(depth)
    )


def init_trunc_normal(module: nn.Module) -> None:
    """Draw linear weights from a normal of std 0.02, zero their biases (ViT); for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def init_xavier(module: nn.Module) -> None:
    """Draw linear weights Xavier-uniform, zero their biases (MAE); for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
