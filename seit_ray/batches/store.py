"""A split decoded once into arrays: gathering a batch is an index, whatever the encoding on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from seit_ray.batches.batch import Batch, upload
from seit_ray.shards.dataset import TokenDataset


@dataclass(frozen=True)
class TokenStore:
    """tokens uint16 [N,L] and labels int64 [N] (-1 where there is none)."""

    tokens: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows; tokens travel as 16 bits and widen on the device."""
        tokens = upload(self.tokens[rows].view(np.int16), device)
        # int16 is the same 16 bits with a sign: drop it
        return Batch(tokens.long().bitwise_and_(0xFFFF), upload(self.labels[rows], device))

    @classmethod
    def read(cls, dataset: TokenDataset, split: str, *, need_labels: bool) -> TokenStore:
        """Read a split shard by shard into arrays of the final size; 2 L bytes a row.

        ValueError when the split is empty, or a row has no label though `need_labels`.
        """
        num = dataset.split(split).rows
        if not num:
            raise ValueError(f"split {split!r} of {dataset.folder.uri} is empty; expected at least one image")
        tokens = np.empty((num, dataset.info.num_tokens), np.uint16)
        labels = np.empty(num, np.int64)
        at = 0
        for rows in dataset.iter_shards(split):
            tokens[at : at + len(rows)] = rows.tokens
            labels[at : at + len(rows)] = rows.meta["label"].fill_null(-1).to_numpy()
            at += len(rows)
        if need_labels and (labels < 0).any():
            raise ValueError(
                f"split {split!r} of {dataset.folder.uri} has {int((labels < 0).sum())} of {num} images without a "
                "label; expected a label for each; tokenise from a folder per class or a table with labels"
            )
        return cls(tokens, labels)
