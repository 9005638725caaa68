"""A token dataset for loops that are not ours: an IterableDataset for torch's DataLoader. L tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from seit_ray.shards.dataset import TokenDataset
from seit_ray.storage import Folder


class TokenIterable(IterableDataset[dict[str, Any]]):
    """Rows of a split as dicts: key, tokens int64 [L], label (-1 for none); each row once an epoch.

    dataset: a path, a uri or a Folder. seed: the shards of an epoch, and the rows of each, come in an order of their
    own, another after `set_epoch`; as stored when None. The workers of a DataLoader, and the `world_size` processes of
    a training of which this is `rank`, read different shards: with fewer shards than readers, some have nothing.
    """

    def __init__(
        self, dataset: str | Folder, split: str, *, seed: int | None = None, rank: int = 0, world_size: int = 1
    ):
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}; expected 0 to {world_size - 1}; correct it")
        self.dataset = TokenDataset(dataset if isinstance(dataset, Folder) else Folder(dataset))
        self.split, self.seed, self.rank, self.world_size = split, seed, rank, world_size
        self.shards = self.dataset.split(split).shards
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Another order; the workers of a DataLoader see it when they are started anew."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        number, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        order = self.permutation(len(self.shards), "shards")
        for index in order[self.rank * workers + number :: self.world_size * workers].tolist():
            rows = self.dataset.read_shard(self.split, self.shards[index])
            keys, labels = rows.meta["key"].to_pylist(), rows.meta["label"].to_pylist()
            tokens = torch.from_numpy(rows.tokens.astype(np.int64))
            for row in self.permutation(len(rows), index).tolist():
                label = labels[row]
                yield {"key": keys[row], "tokens": tokens[row], "label": -1 if label is None else label}

    def permutation(self, num: int, of: str | int) -> np.ndarray:
        """Numbers below num in the order of this epoch."""
        if self.seed is None:
            return np.arange(num)
        which = 0 if of == "shards" else 1 + int(of)
        return np.random.default_rng([self.seed, self.epoch, which]).permutation(num)
