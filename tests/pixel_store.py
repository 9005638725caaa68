"""Pixels in memory as a store, for tests of what reads stores."""

from dataclasses import dataclass

import numpy as np
import torch

from seit_ray.batches.batch import HostBatch, gather
from seit_ray.batches.sampler import step_rows


@dataclass(frozen=True)
class PixelStore:
    """pixels uint8 [N,3,H,W] and labels int64 [N]."""

    pixels: np.ndarray
    labels: np.ndarray
    shuffle_rows: int = 0

    def __len__(self):
        return len(self.pixels)

    def in_order(self, shuffle_rows):
        return self

    def step_rows(self, global_batch_size, seed, step):
        return step_rows(len(self), global_batch_size, seed, step)

    def host_batch(self, rows, *, pinned=False):
        return HostBatch(gather(self.pixels, rows), gather(self.labels, rows))

    def batch(self, rows, device: torch.device):
        return self.host_batch(rows).to(device)

    def keys(self, rows):
        return []

    def close(self):
        pass

    def describe(self):
        return f"{len(self)} images"
