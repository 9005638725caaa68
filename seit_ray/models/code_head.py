"""Scores of codes against their own embeddings: the head of masked token modelling. U tokens of a unit, K codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.models.blocks import StreamNorm

__all__ = ["Judge", "TiedCodeHead"]

# (what the table is multiplied with [N,D], table [K,D], bias [K], targets int64 [N,1]) -> anything
Judge = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


class TiedCodeHead(nn.Module):
    """Scores of the K codes for every token of a unit, against the token embeddings themselves.

    Shapes: x [...,D_decoder], table [K,D] -> logits [...,U,K], the U tokens in raster order. The table is
    detached: the output tie gives it no gradient. `features` [...,U,D] are what the table is multiplied with. Source:
    SeiT++, masked token modelling.
    """

    def __init__(self, width: int, num_codes: int, token_dim: int, unit_tokens: int) -> None:
        super().__init__()
        self.unit_tokens = unit_tokens
        self.fc = nn.Linear(width, unit_tokens * token_dim)
        self.ln = StreamNorm(token_dim, eps=1e-5)
        self.bias = nn.Parameter(torch.zeros(1, 1, num_codes))

    def features(self, x: Tensor) -> Tensor:
        x = self.fc(x).unflatten(-1, (self.unit_tokens, -1))
        return self.ln(F.gelu(x))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return F.linear(self.features(x), table.detach(), self.bias.flatten())
