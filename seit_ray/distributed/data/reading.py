"""A token dataset as a Ray Dataset, for people's own pipelines. N rows, L tokens."""

from __future__ import annotations

import numpy as np
import ray

from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import Shard
from seit_ray.shards.parquet import concat_rows
from seit_ray.storage import Folder


def read_tokens(dataset: str | Folder, split: str) -> ray.data.Dataset:
    """The rows of a split, a block a shard: key, label (-1 for none), tokens uint16 [L]; in order, every row once.

    dataset: a path, a uri or a Folder, whose credentials travel along. Any encoding; every checksum is verified.
    """
    opened = TokenDataset(dataset if isinstance(dataset, Folder) else Folder(dataset))
    names = [shard.name for shard in opened.split(split).shards]
    rows = ray.data.from_items([{"name": name} for name in names], override_num_blocks=max(1, len(names)))
    return rows.map_batches(ReadShards(opened, split), batch_size=1)


class ReadShards:
    """Task: names of shards -> their rows."""

    def __init__(self, dataset: TokenDataset, split: str):
        self.dataset, self.split = dataset, split
        self.shards: dict[str, Shard] = {shard.name: shard for shard in dataset.split(split).shards}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = concat_rows([self.dataset.read_shard(self.split, self.shards[name]) for name in batch["name"]])
        labels = [-1 if label is None else label for label in rows.meta["label"].to_pylist()]
        return {
            "key": np.array(rows.meta["key"].to_pylist(), object),
            "label": np.array(labels, np.int64),
            "tokens": rows.tokens,
        }
