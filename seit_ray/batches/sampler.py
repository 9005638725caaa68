"""Which samples a step sees: a pure function of (seed, step, rank, world size), so resuming needs no state.

Samples form one endless stream: the permutation of epoch 0, then that of epoch 1, and so on; step s takes the next
global_batch_size of it. So every sample is seen exactly once an epoch at any world size, no batch is short, and a
batch may span the border of two epochs. N samples, G global batch size.
"""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=2)
def epoch_permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Order int64 [N] of an epoch; the same on every machine (counter-based generator)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_samples)


def num_steps(num_samples: int, global_batch_size: int, epochs: float) -> int:
    """Steps of a run; ValueError when it would have none."""
    steps = int(num_samples * epochs) // global_batch_size
    if not steps:
        raise ValueError(
            f"{num_samples} samples x {epochs} epochs with global_batch_size {global_batch_size} give no step; "
            f"expected at least one; use global_batch_size {max(1, int(num_samples * epochs))} or less"
        )
    return steps


def step_rows(num_samples: int, global_batch_size: int, seed: int, step: int) -> np.ndarray:
    """Sample indices int64 [G] of a step, for all ranks together."""
    positions = np.arange(step * global_batch_size, (step + 1) * global_batch_size)
    epochs, within = positions // num_samples, positions % num_samples
    rows = np.empty(global_batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = epoch_permutation(num_samples, seed, int(epoch))[within[here]]
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
