"""Stored centroid tokens as images, for a model of pixels. N rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from seit_ray.batches.batch import Batch
from seit_ray.batches.contract import Samples
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.pixels import decode_pixels

__all__ = ["DecodedSamples"]


@dataclass(frozen=True)
class DecodedSamples:
    """Rows of a store of tokens of `grid`, decoded on the device."""

    store: Samples
    tokenizer: Tokenizer
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.store)

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 [N], -1 where there is none."""
        return self.store.labels

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """Images uint8 [B,3,H,W] of the given rows."""
        found = self.store.batch(rows, device)
        return replace(found, inputs=decode_pixels(self.tokenizer, found.inputs, self.grid).to(device))
