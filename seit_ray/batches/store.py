"""A split decoded once into arrays: gathering a batch is an index, whatever the encoding on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from seit_ray.batches.batch import Batch, HostBatch, gather
from seit_ray.batches.crop import center_crop_tokens
from seit_ray.batches.sampler import buffered_order, step_rows
from seit_ray.batches.shared import Layout, SharedArrays, shared_arrays, total_bytes
from seit_ray.images.label_maps import squash_map, unpack_map
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import Shard
from seit_ray.shards.parquet import MASK
from seit_ray.shards.split_checks import check_labels, check_rows

SHARED_BYTES = 16 << 20  # a smaller split is cheaper to hold in every process than to share


@dataclass(frozen=True)
class TokenStore:
    """tokens uint16 [N,L] and labels int64 [N] (-1 where there is none), or label maps uint8 [N,S,S].

    shuffle_rows, 0 for all, is less where a run began as a stream of shards (of shard_rows) and goes on in its order.
    """

    tokens: np.ndarray
    labels: np.ndarray
    shard_rows: tuple[int, ...] = ()
    shuffle_rows: int = 0
    shared: SharedArrays | None = field(default=None, repr=False, compare=False)  # kept: the node's copy lives with it
    read_from: tuple[TokenDataset, str] | None = field(default=None, repr=False, compare=False)  # dataset and split

    def __len__(self) -> int:
        return len(self.tokens)

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together."""
        if not 0 < self.shuffle_rows < len(self):
            return step_rows(len(self), global_batch_size, seed, step)
        return step_rows(len(self), global_batch_size, seed, step, buffered_order(self.shard_rows, self.shuffle_rows))

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""
        return HostBatch(gather(self.tokens, rows, pinned=pinned), gather(self.labels, rows, pinned=pinned))

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows; tokens travel as 16 bits and widen on the device."""
        return self.host_batch(rows, pinned=device.type == "cuda").to(device)

    def cropped(self, grid: tuple[int, int], out_grid: tuple[int, int]) -> TokenStore:
        """The centre crop of every row."""
        return replace(self, tokens=center_crop_tokens(self.tokens, grid, out_grid))

    def in_order(self, shuffle_rows: int) -> TokenStore:
        """The same rows in the order of a run that shuffles so many at a time; all at once is the usual one."""
        return replace(self, shuffle_rows=shuffle_rows)

    def keys(self, rows: np.ndarray) -> list[str]:
        """What the given rows are called in their source; nothing where they were not read from a dataset."""
        return keys_of(*self.read_from, rows) if self.read_from else []

    def close(self) -> None:
        """All is read."""

    def describe(self) -> str:
        """A few words on where the rows are."""
        size = f"{self.tokens.nbytes / 2**20:,.0f} MiB"
        return f"{len(self)} rows in memory, {size}{', one copy a node' if self.shared else ''}"

    @classmethod
    def read(cls, dataset: TokenDataset, split: str, *, need_labels: bool, map_side: int | None = None) -> TokenStore:
        """Read a split shard by shard into arrays of the final size, 2 L bytes a row, one copy a node.

        map_side: take the label maps, squashed to this side, in place of the labels. ValueError when
        the split is empty, or a row has no label though `need_labels`.
        """
        num = check_rows(dataset, split)
        layout = array_layout(num, dataset.info.num_tokens, map_side)
        shards = dataset.split(split).shards
        shared = None
        if total_bytes(layout) >= SHARED_BYTES:
            key = key_of(dataset, shards, map_side)
            shared = shared_arrays(key, layout, lambda arrays: fill_arrays(arrays, dataset, split))
            arrays = shared.arrays
        else:
            arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in layout.items()}
            fill_arrays(arrays, dataset, split)
        tokens, labels = arrays["tokens"], arrays["labels"]
        if need_labels and map_side is None:
            check_labels(dataset, split)
        read_from = (dataset, split)
        return cls(tokens, labels, tuple(shard.rows for shard in shards), shared=shared, read_from=read_from)


def array_layout(num: int, num_tokens: int, map_side: int | None = None) -> Layout:
    """Shapes and types of the arrays of `num` rows; map_side: of label maps in place of labels."""
    tokens: Layout = {"tokens": ((num, num_tokens), np.dtype(np.uint16))}
    return tokens | {"labels": label_layout(num, map_side)}


def label_layout(num: int, map_side: int | None) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the labels of `num` rows, or of their label maps of that side."""
    if map_side is None:
        return (num,), np.dtype(np.int64)
    return (num, map_side, map_side), np.dtype(np.uint8)


def fill_arrays(
    arrays: dict[str, np.ndarray], dataset: TokenDataset, split: str, shards: list[Shard] | None = None
) -> None:
    """Decode shards, all of the split by default, into arrays of `array_layout`."""
    at = 0
    for shard in dataset.split(split).shards if shards is None else shards:
        rows = dataset.read_shard(split, shard)
        arrays["tokens"][at : at + len(rows)] = rows.tokens
        labels = arrays["labels"][at : at + len(rows)]
        if labels.ndim == 1:
            labels[:] = rows.meta["label"].fill_null(-1).to_numpy()
        else:
            for place, data in enumerate(rows.meta[MASK].to_pylist()):
                labels[place] = squash_map(unpack_map(data), labels.shape[1])
        at += len(rows)


def keys_of(dataset: TokenDataset, split: str, rows: np.ndarray) -> list[str]:
    """Keys of rows of a split, in their order; of the shards that hold them the column of keys is read."""
    shards = dataset.split(split).shards
    starts = np.cumsum([0, *(shard.rows for shard in shards)])
    found = np.searchsorted(starts, rows, "right") - 1
    keys = np.empty(len(rows), object)
    for number in np.unique(found).tolist():
        here = found == number
        column = dataset.read_columns(split, shards[number], ["key"])["key"].to_numpy()
        keys[here] = column[rows[here] - starts[number]]
    return keys.tolist()


def key_of(dataset: TokenDataset, shards: list[Shard], map_side: int | None = None) -> str:
    """A name of the decoded content of shards: their checksums, how they are encoded, and the side of label maps."""
    info = dataset.info
    known = [info.tokenizer, info.encoding, str(info.grid), str(info.codebook_size), *(s.sha256 for s in shards)]
    known += [f"maps of {map_side}"] if map_side is not None else []
    return hashlib.sha256("/".join(known).encode()).hexdigest()[:32]
