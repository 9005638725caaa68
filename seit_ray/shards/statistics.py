"""Figures of a token dataset: entropy, code usage, bytes an image. K codes, L tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def entropy_bits(histogram: Sequence[int] | np.ndarray) -> float:
    """Order-0 entropy in bits a token of code counts [K]; 0 for an empty histogram."""
    counts = np.asarray(histogram, np.float64)
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(p * np.log2(p)).sum())


def code_usage(histogram: Sequence[int] | np.ndarray) -> float:
    """Share of the codes that occur."""
    return float(np.mean(np.asarray(histogram) > 0))


def code_histogram(tokens: np.ndarray, num_codes: int) -> np.ndarray:
    """Counts int64 [K] of tokens; ValueError when one is not below K."""
    counts = np.bincount(tokens.ravel(), minlength=num_codes)
    if len(counts) > num_codes:
        raise ValueError(f"token {len(counts) - 1}; expected below {num_codes}, the codebook's size")
    return counts
