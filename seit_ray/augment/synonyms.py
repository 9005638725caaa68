"""Synonym replacement: tokens become codes that look alike (the first part of SeiT's Token-EDA). K codes, L tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.tokenizers.codebook import METRICS

CHUNK_VALUES = 1 << 22  # distances that are held at a time
SPARE = 16  # of the nearest codes that are found beside the wanted, for ties

__all__ = ["nearest_codes", "replace_synonyms"]


def nearest_codes(codebook: Tensor, num: int, metric: str = "l2") -> Tensor:
    """Synonyms int64 [K,num] of a codebook [K,D]: the other codes, nearest first, the lower code on ties.

    metric "l2": by Euclidean distance; "cosine": by angle, whatever the lengths. ValueError for another metric, or
    when there are not so many other codes. How SeiT chose its synonyms is not published.
    """
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r}; expected one of {', '.join(METRICS)}; take the tokenizer's own")
    if not 1 <= num < len(codebook):
        raise ValueError(
            f"{num} synonyms of {len(codebook)} codes; expected 1 to {len(codebook) - 1}; lower augment.num_synonyms"
        )
    vectors = codebook.double()
    if metric == "cosine":
        vectors = F.normalize(vectors, dim=1, eps=1e-12)  # between unit vectors distance grows with the angle
    nearest = []
    rows = max(1, CHUNK_VALUES // len(vectors))
    for start in range(0, len(vectors), rows):
        distances = torch.cdist(vectors[start : start + rows], vectors)
        own = torch.arange(len(distances), device=vectors.device)
        distances[own, start + own] = torch.inf  # a code is no synonym of itself, also where another equals it
        nearest.append(smallest(distances, num))
    return torch.cat(nearest)


def smallest(values: Tensor, num: int) -> Tensor:
    """Columns int64 [N,num] of the smallest values of each row [N,K], in order, the lower column on ties."""
    some = min(values.shape[1], num + SPARE)
    found, columns = values.topk(some, dim=1, largest=False)
    columns, order = columns.sort(dim=1)
    found = found.gather(1, order)
    order = found.argsort(dim=1, stable=True)
    chosen = columns.gather(1, order)[:, :num]
    # of values that equal the last one, some may have been left out
    ties = found.gather(1, order)[:, num - 1] == found.max(dim=1).values
    if some < values.shape[1] and ties.any():
        chosen[ties] = values[ties].argsort(dim=1, stable=True)[:, :num]
    return chosen


def replace_synonyms(tokens: Tensor, synonyms: Tensor, share: float, rng: StepRandom) -> Tensor:
    """Tokens [B,L], each replaced with probability `share` by one of its synonyms [K,S], all equally likely.

    Source: SeiT, section 3.2 (Token-EDA, synonym replacement).
    """
    picks = rng.integers("synonym", synonyms.shape[1], tokens.shape[1])
    replaced = rng.uniform("synonym_share", tokens.shape[1]) < share
    return torch.where(replaced, synonyms[tokens, picks], tokens)
