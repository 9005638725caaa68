"""What an encoder makes of a split: features of a seeded sample, the same on every rank. N samples, D width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seit_ray.batches.batch import Batch
from seit_ray.batches.contract import Samples
from seit_ray.evaluation.batches import eval_batches
from seit_ray.training.world import World


@dataclass(frozen=True)
class Subset:
    """Some rows int64 [N] of a store, in their order, as a store."""

    store: Samples
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 [N]."""
        return self.store.labels[self.rows]

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows of these rows."""
        return self.store.batch(self.rows[rows], device)


def labelled_sample(store: Samples, max_samples: int, seed: int = 0, *, need_labels: bool = True) -> Subset:
    """At most `max_samples` of the rows that have a label, drawn without repeats; ascending, alike on every rank.

    With need_labels false, of all rows: the same ones where all have a label.
    """
    if max_samples < 1:
        raise ValueError(f"max_samples {max_samples}; expected 1 or more; raise it")
    labelled = np.flatnonzero(store.labels >= 0) if need_labels else np.arange(len(store))
    if len(labelled) > max_samples:
        drawn = np.random.Generator(np.random.Philox(key=seed)).choice(len(labelled), max_samples, replace=False)
        labelled = labelled[np.sort(drawn)]
    return Subset(store, labelled)


@torch.inference_mode()
def split_features(
    encode: Callable[[Tensor], Tensor],
    store: Samples,
    world: World,
    *,
    batch_size: int = 512,
) -> tuple[Tensor, Tensor]:
    """Features float32 [N,D] and labels int64 [N] of what a store can read, on every rank's device.

    `encode` makes [B,D] of a batch's inputs; each rank encodes its chunks. All are held at once: take a
    `labelled_sample` of a large split.
    """
    width, found = 0, []
    labels, read = told = torch.zeros(2, len(store), dtype=torch.int64, device=world.device)
    for _, rows, batch in eval_batches(store, batch_size, world):
        values = encode(batch.inputs).float()
        width = values.shape[1]
        found.append((rows, values))
        labels[rows] = -1 if batch.labels is None else batch.labels  # of an image that stands in for another, its own
        read[rows] = 1
    # Zeros elsewhere: the sum over ranks is then the features themselves, to the bit.
    width = max(world.gather(width))  # a rank may have no chunk
    features = torch.zeros(len(store), width, device=world.device)
    for rows, values in found:
        features[rows] = values
    features, (labels, read) = world.sum(features), world.sum(told)
    return (features, labels) if read.all() else (features[read > 0], labels[read > 0])
