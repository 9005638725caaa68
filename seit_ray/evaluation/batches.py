"""A split for evaluation: fixed chunks dealt out to ranks, so that any number of workers gives the same figures."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from seit_ray.batches.batch import Batch
from seit_ray.batches.contract import Samples
from seit_ray.training.world import World


def eval_batches(store: Samples, batch_size: int, world: World) -> Iterator[tuple[int, slice | Tensor, Batch]]:
    """(chunk number, rows, batch) of this rank's chunks; together the ranks see each sample exactly once.

    rows: numbers in the store of what the batch has, int64 [B] where some of its chunk cannot be read; a chunk of which
    nothing can is left out.
    """
    for chunk in range(world.rank, -(-len(store) // batch_size), world.size):
        start, stop = chunk * batch_size, min((chunk + 1) * batch_size, len(store))
        batch = store.batch(slice(start, stop), world.device)
        if batch.places is None:
            yield chunk, slice(start, stop), batch
        elif len(batch.places):
            yield chunk, start + batch.places, batch
