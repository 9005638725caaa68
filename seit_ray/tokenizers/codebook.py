"""Vectors to the codes of a codebook and back. Shapes: K codes, D width, B batch, h x w grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.tokenizers.exact import exact_products

__all__ = ["METRICS", "embed_codes", "nearest_in_codebook", "quantize_maps"]

METRICS = ("cosine", "l2")
CHUNK_SCORES = 1 << 24  # scores held at a time


def nearest_in_codebook(vectors: Tensor, codebook: Tensor, metric: str = "cosine") -> Tensor:
    """Codes int64 [...] nearest to vectors [...,D] in a codebook [K,D]; the lowest code on ties.

    "cosine": both sides L2-normalised, lengths do not matter (ViT-VQGAN, SeiT), and rows that differ in length alone
    tie; "l2": Euclidean (centroids). In float32 whatever autocast says: half precision would flip close codes.
    Another metric, or another width, is a ValueError.
    """
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r}; expected one of {', '.join(METRICS)}; take the tokenizer's own")
    if vectors.shape[-1] != codebook.shape[1]:
        raise ValueError(
            f"vectors of width {vectors.shape[-1]} for a codebook of width {codebook.shape[1]}; expected one width; "
            "take the codebook that the vectors were made with"
        )
    with exact_products(vectors.device):
        rows, table = vectors.detach().reshape(-1, vectors.shape[-1]).float(), codebook.detach().float()
        if metric == "cosine":
            # The length of a vector does not change which cosine is largest: only the table is normalised.
            table = F.normalize(table, dim=1, eps=1e-12)
            bias, slack = table.new_zeros(len(table)), 2 * table.shape[1] ** 0.5 * torch.finfo(table.dtype).eps
        else:
            bias, slack = -0.5 * table.square().sum(1), 0.0  # x.c - |c|^2/2 is largest where |x-c|^2 is least
        chunks = rows.split(max(1, CHUNK_SCORES // len(table)))
        codes = [lowest_best(torch.addmm(bias, chunk, table.T), slack * chunk.norm(dim=1)) for chunk in chunks]
    return torch.cat(codes).view(vectors.shape[:-1]) if codes else rows.new_zeros(vectors.shape[:-1], dtype=torch.long)


def lowest_best(scores: Tensor, slack: Tensor) -> Tensor:
    """The lowest code int64 [N] whose score is the best of scores [N,K], or as close to it as slack [N].

    The slack is what rounding can add: parallel rows, normalised, differ in their last bits.
    """
    return (scores >= (scores.amax(1) - slack)[:, None]).to(torch.uint8).argmax(1)


def quantize_maps(maps: Tensor, codebook: Tensor, metric: str = "cosine") -> Tensor:
    """Codes int64 [B,h,w] of embedded maps [B,D,h,w]."""
    return nearest_in_codebook(maps.permute(0, 2, 3, 1), codebook, metric)


def embed_codes(tokens: Tensor, codebook: Tensor) -> Tensor:
    """Embedded maps [B,D,h,w] of codes [B,h,w]: the codebook's rows as they are."""
    return F.embedding(tokens, codebook).permute(0, 3, 1, 2)
