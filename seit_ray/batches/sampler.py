"""Which samples a step sees: a pure function of (seed, step, rank, world size), so resuming needs no state.

Samples form one endless stream: the permutation of epoch 0, then that of epoch 1, and so on; step s takes the next
global_batch_size of it. So every sample is seen exactly once an epoch at any world size, no batch is short, and a
batch may span the border of two epochs. N samples, G global batch size.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np

ROUNDING = 1e-6  # of samples: epochs that are a quotient give the very number of samples that they stand for
Order = Callable[[int, int, int], np.ndarray]  # (num_samples, seed, epoch) -> order of an epoch, int64 [N]


@functools.lru_cache(maxsize=2)
def epoch_permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Order int64 [N] of an epoch; the same on every machine (counter-based generator)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_samples)


@functools.lru_cache(maxsize=4)
def shuffle_groups(shard_rows: tuple[int, ...], buffer_rows: int, seed: int, epoch: int) -> list[list[int]]:
    """Numbers of the shards that are shuffled together, group after group: `buffer_rows` rows each, or one shard.

    The shards come in another order every epoch.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    groups: list[list[int]] = []
    room = 0
    for shard in generator.permutation(len(shard_rows)).tolist():
        if not groups or shard_rows[shard] > room:
            groups.append([])
            room = buffer_rows
        groups[-1].append(shard)
        room -= shard_rows[shard]
    return groups


@functools.lru_cache(maxsize=2)
def buffered_permutation(shard_rows: tuple[int, ...], buffer_rows: int, seed: int, epoch: int) -> np.ndarray:
    """Order int64 [N] of an epoch for a reader that holds `buffer_rows` rows: whole shards, shuffled in groups.

    A buffer that covers the split gives `epoch_permutation`.
    """
    num_samples = sum(shard_rows)
    if buffer_rows >= num_samples:
        return epoch_permutation(num_samples, seed, epoch)
    starts = np.cumsum([0, *shard_rows])
    parts = []
    for number, group in enumerate(shuffle_groups(shard_rows, buffer_rows, seed, epoch)):
        rows = np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in group])
        counter = [0, 0, 0, number + 1]  # counter 0 drew the order of the shards
        generator = np.random.Generator(np.random.Philox(key=[seed, epoch], counter=counter))
        parts.append(rows[generator.permutation(len(rows))])
    return np.concatenate(parts)


def buffered_order(shard_rows: tuple[int, ...], buffer_rows: int) -> Order:
    """The order of an epoch of a stream of shards, as `step_rows` asks for it."""
    return lambda num, seed, epoch: buffered_permutation(shard_rows, buffer_rows, seed, epoch)


def num_steps(num_samples: int, global_batch_size: int, epochs: float) -> int:
    """Steps of a run; ValueError when it would have none."""
    steps = int(num_samples * epochs + ROUNDING) // global_batch_size
    if not steps:
        raise ValueError(
            f"{num_samples} samples x {epochs} epochs with global_batch_size {global_batch_size} give no step; "
            f"expected at least one; use global_batch_size {max(1, int(num_samples * epochs))} or less"
        )
    return steps


def epoch_at(num_samples: int, global_batch_size: int, done: int) -> float:
    """The epoch, to four digits, behind so many steps: what metrics and evaluations go by."""
    return round(done * global_batch_size / num_samples, 4)


def step_rows(
    num_samples: int, global_batch_size: int, seed: int, step: int, order: Order = epoch_permutation
) -> np.ndarray:
    """Sample indices int64 [G] of a step, for all ranks together."""
    positions = np.arange(step * global_batch_size, (step + 1) * global_batch_size)
    epochs, within = positions // num_samples, positions % num_samples
    rows = np.empty(global_batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = order(num_samples, seed, int(epoch))[within[here]]
    return rows


def rank_span(global_batch_size: int, rank: int, world_size: int) -> slice:
    """A rank's part of the global batch, split between pairs of rows (0 and 1, 2 and 3, ...).

    Augmentations that mix samples mix those of a pair: kept together, they do not depend on the number of ranks. Only
    a batch of less than a pair a rank is split between rows.
    """
    unit = 2 if global_batch_size >= 2 * world_size else 1
    num = -(-global_batch_size // unit)
    start, stop = (unit * (num * r // world_size) for r in (rank, rank + 1))
    return slice(start, min(stop, global_batch_size))


def part_spans(rows: slice, accum_steps: int, max_rows: int | None = None) -> list[slice]:
    """A rank's rows of the global batch in micro-batches: as many as asked for, more where they exceed `max_rows`.

    Pairs stay together here too, so that a micro-batch has 2 rows at least.
    """
    num_pairs = -(-(rows.stop - rows.start) // 2)
    most = num_pairs if max_rows is None else max(1, max_rows // 2)
    num = min(num_pairs, max(accum_steps, -(-num_pairs // most)))
    bounds = [min(rows.start + 2 * (num_pairs * part // num), rows.stop) for part in range(num + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
