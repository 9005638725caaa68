"""Two token datasets of the same images as one store: the second's tokens lie behind the first's. N rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from seit_ray.batches.batch import Batch, HostBatch
from seit_ray.batches.contract import TokenSamples
from seit_ray.shards.dataset import TokenDataset

__all__ = ["PairedStore", "check_same_rows"]


@dataclass(frozen=True)
class PairedStore:
    """Rows of `first` with those of `second` behind, [N,L1+L2]; order and labels are those of `first`."""

    first: TokenSamples
    second: TokenSamples

    def __len__(self) -> int:
        return len(self.first)

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 [N] of the first."""
        return self.first.labels

    @property
    def shuffle_rows(self) -> int:
        """How many rows are shuffled at a time; 0 for all."""
        return self.first.shuffle_rows

    def in_order(self, shuffle_rows: int) -> PairedStore:
        """The same rows in the order of a run that shuffles so many at a time."""
        first = self.first.in_order(shuffle_rows)
        return replace(self, first=first)  # type: ignore[arg-type]  # what it gives is such a store again

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together."""
        return self.first.step_rows(global_batch_size, seed, step)

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""
        own, other = self.first.host_batch(rows), self.second.host_batch(rows)
        inputs = torch.cat([own.inputs, other.inputs], dim=1)
        if not pinned:
            return HostBatch(inputs, own.labels)
        return HostBatch(inputs.pin_memory(), own.labels.pin_memory())

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows on a device."""
        return self.host_batch(rows, pinned=device.type == "cuda").to(device)

    def keys(self, rows: np.ndarray) -> list[str]:
        """What the given rows are called in their source."""
        return self.first.keys(rows)

    def close(self) -> None:
        """Read nothing more ahead, after an error."""
        self.first.close()
        self.second.close()

    def describe(self) -> str:
        """A few words on where the rows are."""
        return f"{self.first.describe()}; with them {self.second.describe()}"


def check_same_rows(first: TokenDataset, second: TokenDataset, split: str) -> None:
    """ValueError unless a split of two datasets is of the same images in the same order, told by their keys."""
    if split not in second.info.splits or first.split(split).rows != second.split(split).rows:
        rows = second.info.splits[split].rows if split in second.info.splits else 0
        raise ValueError(
            f"{rows} rows in split {split!r} of {second.folder.uri}; expected the {first.split(split).rows} of "
            f"{first.folder.uri}; tokenise the same images"
        )
    keys = [
        np.concatenate([d.read_columns(split, s, ["key"])["key"].to_numpy() for s in d.split(split).shards])
        for d in (first, second)
    ]
    differ = np.flatnonzero(keys[0] != keys[1])
    if len(differ):
        row = int(differ[0])
        raise ValueError(
            f"row {row} of split {split!r} is {keys[1][row]!r} in {second.folder.uri}; expected {keys[0][row]!r}, "
            f"as in {first.folder.uri}; tokenise the same images, with the same rejects"
        )
