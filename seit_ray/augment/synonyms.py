"""Synonym replacement: tokens become codes that look alike (the first part of SeiT's Token-EDA). K codes, L tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from seit_ray.augment.random import StepRandom


def nearest_codes(codebook: Tensor, num: int) -> Tensor:
    """Synonyms int64 [K,num] of a codebook [K,D]: the other codes by Euclidean distance, nearest first.

    ValueError when there are not so many other codes. How SeiT chose its synonyms is not published.
    """
    if not 1 <= num < len(codebook):
        raise ValueError(
            f"{num} synonyms of {len(codebook)} codes; expected 1 to {len(codebook) - 1}; lower augment.num_synonyms"
        )
    distances = torch.cdist(codebook.double(), codebook.double())
    distances.fill_diagonal_(torch.inf)  # a code is no synonym of itself, also where another equals it
    return distances.argsort(dim=1, stable=True)[:, :num]


def replace_synonyms(tokens: Tensor, synonyms: Tensor, share: float, rng: StepRandom) -> Tensor:
    """Tokens [B,L], each replaced with probability `share` by one of its synonyms [K,S], all equally likely.

    Source: SeiT, section 3.2 (Token-EDA, synonym replacement).
    """
    picks = rng.integers("synonym", synonyms.shape[1], tokens.shape[1])
    replaced = rng.uniform("synonym_share", tokens.shape[1]) < share
    return torch.where(replaced, synonyms[tokens, picks], tokens)
