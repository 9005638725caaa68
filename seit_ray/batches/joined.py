"""Rows of several sources as one store in memory's order, under labels of their own. N rows, G global batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seit_ray.batches.batch import Batch, HostBatch
from seit_ray.batches.sampler import step_rows


@dataclass(frozen=True)
class Part:
    """read: places int64 [n] -> what is stored there, uint8 images [n,3,H,W] or 16 bits a token [n,L]; labels [N]."""

    read: Callable[[np.ndarray], Tensor]
    labels: np.ndarray


class JoinedStore:
    """The rows of all parts, one after the other, as a `SampleStore`: all of them are shuffled together.

    A ValueError where there is none.
    """

    shuffle_rows = 0

    def __init__(self, parts: Sequence[Part]):
        self.parts = [part for part in parts if len(part.labels)]
        if not self.parts:
            raise ValueError("a store of no rows; expected one at least; give images of every class")
        self.labels = np.concatenate([part.labels for part in self.parts]).astype(np.int64)
        self.starts = np.cumsum([0, *(len(part.labels) for part in self.parts)])

    def __len__(self) -> int:
        return len(self.labels)

    def in_order(self, shuffle_rows: int) -> JoinedStore:
        """Itself; ValueError where a run shuffled some rows at a time."""
        if shuffle_rows not in (0, len(self)):
            raise ValueError(f"a run that shuffled {shuffle_rows} rows at a time; expected all; give it another name")
        return self

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Row numbers int64 [G] of a step, for all ranks together."""
        return step_rows(len(self), global_batch_size, seed, step)

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        found = np.searchsorted(self.starts, rows, "right") - 1
        inputs: Tensor | None = None
        for number in np.unique(found).tolist() or [0]:
            here = np.flatnonzero(found == number)
            read = self.parts[number].read(rows[here] - self.starts[number])
            if inputs is None:
                inputs = torch.empty((len(rows), *read.shape[1:]), dtype=read.dtype, pin_memory=pinned)
            inputs[torch.from_numpy(here)] = read
        assert inputs is not None  # of the first part, if of none
        labels = torch.from_numpy(self.labels[rows])
        return HostBatch(inputs, labels.pin_memory() if pinned else labels)

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows on a device."""
        return self.host_batch(rows, pinned=device.type == "cuda").to(device)

    def keys(self, rows: np.ndarray) -> list[str]:
        """Nothing: the parts do not know."""
        del rows
        return []

    def close(self) -> None:
        """The sources are not this store's own."""

    def describe(self) -> str:
        """A few words on where the rows are."""
        return f"{len(self)} rows ({' + '.join(str(len(part.labels)) for part in self.parts)})"
