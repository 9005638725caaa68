"""A memory of exemplars within a number of bytes: as many as fit, evenly of all classes. N rows, D width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from seit_ray.batches.exemplar_codecs import Codec

SELECTIONS = ("herding", "random")
LABEL_BYTES = ((1 << 8, 1), (1 << 16, 2), (1 << 32, 4))  # classes that so many bytes tell apart


def label_bytes(num_classes: int) -> int:
    """Bytes of an exemplar's label, among all classes that are to come."""
    return next(size for most, size in LABEL_BYTES if num_classes <= most)


def herding(features: Tensor, num: int) -> np.ndarray:
    """The first `num` rows whose mean is, one by one, nearest to the mean of all: places int64 in that order.

    features [N,D] of one class; they are brought to length 1. Source: iCaRL (Rebuffi et al. 2017), algorithm 4.
    """
    rows = torch.nn.functional.normalize(features.double(), dim=1)
    mean, total = rows.mean(0), torch.zeros_like(rows[0])
    lengths = rows.square().sum(1)
    left = torch.zeros_like(lengths)
    order = []
    for number in range(1, min(num, len(rows)) + 1):
        # |number * mean - (total + row)|^2 but for what is the same for all rows
        distances = lengths - 2 * (rows @ (number * mean - total)) + left
        best = int(distances.argmin())
        order.append(best)
        total, left[best] = total + rows[best], torch.inf
    return np.array(order, np.int64)


def random_order(num_rows: int, num: int, *, seed: int, label: int) -> np.ndarray:
    """The first `num` places of a random order of a class's rows."""
    generator = np.random.Generator(np.random.Philox(key=[seed, label]))
    return generator.permutation(num_rows)[:num].astype(np.int64)


def first_of_each(ranked: Sequence[np.ndarray], num: int) -> tuple[np.ndarray, ...]:
    """The best `num` exemplars of all classes: one of each class in turn, the earlier classes first, while they last.

    So classes differ by one at most, unless one has no more.
    """
    if not ranked:
        return ()
    classes = np.repeat(np.arange(len(ranked)), [len(rows) for rows in ranked])
    ranks = np.concatenate([np.arange(len(rows)) for rows in ranked])
    counts = np.bincount(classes[np.lexsort((classes, ranks))[:num]], minlength=len(ranked))
    return tuple(rows[:count] for rows, count in zip(ranked, counts, strict=True))


def joined_rows(kept: Sequence[np.ndarray]) -> np.ndarray:
    """Row numbers int64 [n], class after class."""
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


def fitting_number(ranked: Sequence[np.ndarray], budget_bytes: int, size_of: Callable[[np.ndarray], int]) -> int:
    """The most exemplars that fit together: size_of(the best so many, `first_of_each`) within the budget.

    Sizes are those of the encoded bytes. Where they do not quite grow with the number, as entropy coding does not
    promise, what is returned fits all the same. Few sizes are asked for: they are nearly even steps.
    """

    def size(num: int) -> int:
        return size_of(joined_rows(first_of_each(ranked, num)))

    low, high = 0, sum(len(rows) for rows in ranked)
    least, most = size(low), size(high)
    if most <= budget_bytes:
        return high
    asked = 0
    while high - low > 1:
        share = (budget_bytes - least) / max(most - least, 1) if asked % 3 < 2 else 0.5  # halves now and then: it ends
        asked += 1
        middle = min(max(low + int(share * (high - low)), low + 1), high - 1)
        found = size(middle)
        if found <= budget_bytes:
            low, least = middle, found
        else:
            high, most = middle, found
    return low


@dataclass(frozen=True)
class Memory:
    """The exemplars that are kept: row numbers of each class seen so far, best first, as many as fit.

    shared_bytes: what has to be there whatever their number (a codebook). The codec is None where nothing is kept.
    """

    codec: Codec | None
    budget_bytes: int
    shared_bytes: int
    label_bytes: int
    ranked: tuple[np.ndarray, ...] = ()

    @property
    def rows(self) -> np.ndarray:
        """Row numbers int64 [n], class after class."""
        return joined_rows(self.ranked)

    @property
    def num_bytes(self) -> int:
        """What it takes: what is shared, the encoded exemplars, their labels."""
        return self.size_of(self.rows) if self.codec else 0

    def size_of(self, rows: np.ndarray) -> int:
        """Bytes with the given exemplars."""
        assert self.codec is not None  # asked where something is kept
        return self.shared_bytes + self.codec.size(rows) + len(rows) * self.label_bytes

    def with_classes(self, ranked: Sequence[np.ndarray]) -> Memory:
        """With new classes, of which these are the rows, best first: the lowest of every class make room for them."""
        if self.codec is None:
            return self
        every = (*self.ranked, *ranked)
        num = fitting_number(every, self.budget_bytes, self.size_of)
        return replace(self, ranked=first_of_each(every, num))
