"""What a token's neighbours tell of it: the code to its left and the one above choose one of a few code tables.

Codes that are followed by alike codes are one class; pairs of classes (left, above) that are followed by alike codes
are one group; a group has a table of frequencies. Both groupings are k-means with the Kullback-Leibler divergence
(Dhillon, Mallela and Kumar, JMLR 3, 2003) on integers, so that every machine finds the same. Shapes: N rows of L
tokens, K codes, C classes (class 0 is what lies outside the picture), G groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from seit_ray.shards.statistics import code_histogram, entropy_bits

MAX_CODES = 4096  # with more, pairs of codes are too many to count
LEAST_TOKENS = 16  # a code, on average: with fewer, tables cost more than they save
NUM_CLASSES = 48
NUM_GROUPS = (8, 32, 64)  # tried in turn: more data pays for more; beyond 64, tables outgrow the cache of a reader
ROUNDS = 8
ENTRY_BITS, PAIR_BITS = 8, 6  # about what an entry of a table, and the group of a pair, take when compressed
CHUNK_ROWS = 1024


class Context(NamedTuple):
    """Which table codes a token: groups[class of the left code, class of the code above]."""

    width: int  # tokens in a line of the picture
    classes: np.ndarray  # uint8 [K]
    groups: np.ndarray  # uint8 [C,C]

    def pairs(self, tokens: np.ndarray) -> np.ndarray:
        """class left * C + class above, uint16 [N,L], of tokens [N,L]."""
        found = self.classes[tokens].astype(np.uint16)
        pairs = np.zeros_like(found)
        pairs[:, 1:] = found[:, :-1] * np.uint16(len(self.groups))
        pairs[:, :: self.width] = 0
        pairs[:, self.width :] += found[:, : -self.width]
        return pairs


def fit_context(tokens: np.ndarray, num_codes: int) -> tuple[Context, np.ndarray]:
    """The context that makes tokens uint16 [N,L] small, and the counts int64 [G,K] of its tables; one is the least."""
    best = Context(1, np.zeros(num_codes, np.uint8), np.zeros((1, 1), np.uint8))
    best_counts = code_histogram(tokens, num_codes)[None]
    if num_codes > MAX_CODES or tokens.size < LEAST_TOKENS * num_codes:
        return best, best_counts
    width = line_width(tokens)
    classes = (grouped(count_followers(tokens, width, num_codes), NUM_CLASSES) + 1).astype(np.uint8)
    num_classes = int(classes.max()) + 1
    context = Context(width, classes, np.zeros((num_classes, num_classes), np.uint8))
    by_pair = np.zeros((num_classes**2, num_codes), np.int64)
    for rows in chunks(tokens):
        by_pair += counted(context.pairs(rows).astype(np.int64) * num_codes + rows, by_pair.shape)
    for num_groups in NUM_GROUPS:
        groups = grouped(by_pair, num_groups)
        counts = summed(by_pair, groups)
        if coded_bits(counts) + PAIR_BITS * len(groups) < coded_bits(best_counts) + PAIR_BITS * best.groups.size:
            best = context._replace(groups=groups.astype(np.uint8).reshape(num_classes, num_classes))
            best_counts = counts
    return best, best_counts


def count_followers(tokens: np.ndarray, width: int, num_codes: int) -> np.ndarray:
    """How often each code stands to the left of, or above, each other one: int64 [K,K]."""
    followers = np.zeros((num_codes, num_codes), np.int64)
    for rows in chunks(tokens):
        lines = rows.astype(np.int64).reshape(-1, width)
        followers += counted(lines[:, :-1] * num_codes + lines[:, 1:], followers.shape)
        followers += counted(rows[:, :-width].astype(np.int64) * num_codes + rows[:, width:], followers.shape)
    return followers


def chunks(tokens: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows at a time: what is counted of them takes 8 bytes a token."""
    for start in range(0, len(tokens), CHUNK_ROWS):
        yield tokens[start : start + CHUNK_ROWS]


def counted(numbers: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How often each number below the product of a shape occurs, in that shape."""
    return np.bincount(numbers.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def line_width(tokens: np.ndarray) -> int:
    """Tokens in a line of the pictures: the distance, not far from a square, over which tokens are most often equal."""
    num_tokens = tokens.shape[1]
    near = [w for w in range(1, num_tokens) if num_tokens % w == 0 and num_tokens <= 4 * w * w <= 16 * num_tokens]
    sample = tokens[:CHUNK_ROWS]
    equal = {w: np.mean(sample[:, w:] == sample[:, :-w]) for w in sorted(near, key=lambda w: abs(num_tokens - w * w))}
    return max(equal, key=equal.__getitem__, default=num_tokens)


def grouped(counts: np.ndarray, num_groups: int) -> np.ndarray:
    """Group of each row of counts int64 [R,K], 0 to num_groups - 1 without gaps."""
    values = counts.astype(np.float64)  # whole numbers below 2^53: sums are exact, in whatever order
    background = (values.sum(0) + 0.5) * (8 / (values.sum() + 0.5 * values.shape[1]))
    centres = values[np.argsort(-values.sum(1), kind="stable")[:num_groups]]
    groups = np.zeros(len(values), np.int64)
    for _ in range(ROUNDS):
        smooth = centres + background
        score = np.rint(256 * np.log2(smooth / smooth.sum(1, keepdims=True)))
        groups = (values @ score.T).argmax(1)
        centres = summed(values, groups, num_groups)
    return np.unique(groups, return_inverse=True)[1]


def summed(counts: np.ndarray, groups: np.ndarray, num_groups: int | None = None) -> np.ndarray:
    """Counts [G,K]: the sum of the rows of each group."""
    sums = np.zeros((num_groups or int(groups.max()) + 1, counts.shape[1]), counts.dtype)
    for group in np.unique(groups):  # whole rows are added, which np.add.at does an element at a time
        sums[group] = counts[groups == group].sum(0)
    return sums


def coded_bits(counts: np.ndarray) -> float:
    """About the bits of tokens with counts [G,K], and of their tables."""
    return sum(entropy_bits(row) * row.sum() for row in counts) + ENTRY_BITS * np.count_nonzero(counts)
