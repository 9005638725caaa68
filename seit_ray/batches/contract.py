"""What a store of samples is to a training and to an evaluation, wherever its rows lie. N samples, G global batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from seit_ray.batches.batch import Batch, HostBatch


class Samples(Protocol):
    """Samples by their number: what an evaluation reads."""

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 [N], -1 where there is none; maps uint8 [N,H,W] where a class a pixel is learnt."""

    def __len__(self) -> int:
        """N."""

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows on a device, with their labels; where some cannot be read, the others (`Batch.places`)."""


class SampleStore(Samples, Protocol):
    """Samples in the order of a training."""

    @property
    def shuffle_rows(self) -> int:
        """How many rows are shuffled at a time; 0 for all."""

    def in_order(self, shuffle_rows: int) -> SampleStore:
        """The same samples in the order of a run that shuffles so many at a time."""

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together."""

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""

    def keys(self, rows: np.ndarray) -> list[str]:
        """What the given rows are called in their source; nothing where that is not known."""

    def close(self) -> None:
        """Read nothing more ahead, after an error."""

    def describe(self) -> str:
        """A few words on where the rows are."""


class TokenSamples(SampleStore, Protocol):
    """Samples of tokens."""

    def cropped(self, grid: tuple[int, int], out_grid: tuple[int, int]) -> TokenSamples:
        """The centre crop of every row."""
