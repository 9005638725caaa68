"""The pre-norm transformer block of every model here, and how new weights are drawn. B batch, L tokens, D width.

Under autocast the stream between blocks, what each adds to, is in 16 bits as the products are: half the bytes of all
that is no product. Statistics of norms are in float32, and so is all of it without autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "LAYER_NORM_EPS",
    "Attention",
    "Block",
    "DropPath",
    "Mlp",
    "StreamNorm",
    "build_blocks",
    "init_trunc_normal",
    "init_xavier",
    "stream",
]

LAYER_NORM_EPS = 1e-6
MLP_RATIO = 4


def stream(x: Tensor) -> Tensor:
    """What goes into the blocks, in the type of products under autocast; as it is without."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class StreamNorm(nn.LayerNorm):
    """LayerNorm whose statistics are in float32 and whose result is in the type of what comes in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)  # under autocast of a GPU it gives float32


class Attention(nn.Module):
    """Multi-head self-attention with a fused qkv [B,L,D] -> [B,L,D]; dropout of what comes out, and of weights."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, attention_dropout: float = 0.0):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} with {num_heads} heads; expected a multiple; change one of them")
        self.num_heads, self.dropout, self.attention_dropout = num_heads, dropout, attention_dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropped = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropped)
        out = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return F.dropout(out, self.dropout, self.training)


class Mlp(nn.Module):
    """Two layers with exact GELU [B,L,D] -> [B,L,D]; dropout behind each."""

    def __init__(self, width: int, hidden_width: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.fc1 = nn.Linear(width, hidden_width)
        self.fc2 = nn.Linear(hidden_width, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.dropout(F.gelu(self.fc1(x)), self.dropout, self.training)
        return F.dropout(self.fc2(hidden), self.dropout, self.training)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., arXiv 1603.09382): in training samples lose the branch."""

    keep: Tensor

    def __init__(self, rate: float):
        super().__init__()
        self.drop_prob, self.drops = rate, rate > 0
        self.register_buffer("keep", torch.tensor(1.0 - rate), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.drops and self.training):
            return x
        shape = (x.shape[0], *[1] * (x.ndim - 1))
        if torch.compiler.is_compiling():  # by a tensor, so that what is compiled for one rate serves every rate
            kept = torch.rand(shape, device=x.device) < self.keep
            return x * (kept / self.keep).to(x.dtype)
        return x * x.new_empty(shape).bernoulli_(1.0 - self.drop_prob).div_(1.0 - self.drop_prob)

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:g}"


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) [B,L,D] -> [B,L,D] (Dosovitskiy et al., arXiv 2010.11929)."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ):
        super().__init__()
        self.norm1 = StreamNorm(width, eps=LAYER_NORM_EPS)
        self.attn = Attention(width, num_heads, dropout, attention_dropout)
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = StreamNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width, MLP_RATIO * width, dropout)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


def build_blocks(
    width: int,
    depth: int,
    num_heads: int,
    *,
    drop_path: float = 0.0,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> nn.ModuleList:
    """Return `depth` pre-norm blocks [B,L,D] -> [B,L,D]: fused qkv with bias, MLP 4x, exact GELU, eps 1e-6.

    `drop_path` rises linearly from 0 in the first block to the given rate in the last; `dropout` acts on what
    attention and MLP give, `attention_dropout` on attention weights. Rates outside [0,1) are a ValueError.
    """
    rates_of = {"drop_path": drop_path, "dropout": dropout, "attention_dropout": attention_dropout}
    for name, rate in rates_of.items():
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} {rate}; expected 0 <= rate < 1; lower it")
    rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
    drops = {"dropout": dropout, "attention_dropout": attention_dropout}
    return nn.ModuleList(Block(width, num_heads, drop_path=rate, **drops) for rate in rates)


def init_trunc_normal(module: nn.Module) -> None:
    """Draw linear weights from a normal of std 0.02, zero their biases (ViT); for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:  # BEiT's keys have none
            nn.init.zeros_(module.bias)


def init_xavier(module: nn.Module) -> None:
    """Draw linear weights Xavier-uniform, zero their biases (MAE); for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
