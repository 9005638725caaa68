"""A split that does not fit into memory: shards come from storage as they are needed, one copy of each a node."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow.compute as pc
import torch

from seit_ray.batches.batch import Batch, HostBatch, taken
from seit_ray.batches.contract import TokenSamples
from seit_ray.batches.crop import center_crop_tokens
from seit_ray.batches.held import HeldShards
from seit_ray.batches.memory import memory_budget
from seit_ray.batches.shared import SharedArrays, shared_arrays
from seit_ray.batches.store import TokenStore, array_layout, fill_arrays, key_of, keys_of
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.split_checks import check_labels, check_rows

Crop = tuple[tuple[int, int], tuple[int, int]]  # (grid, out_grid)
NUM_READERS = 2


def open_split(
    dataset: TokenDataset,
    split: str,
    *,
    need_labels: bool,
    memory_gib: float | None = None,
    map_side: int | None = None,
) -> TokenSamples:
    """A split in memory where it fits into `memory_gib` (half of the node's by default), streamed where it does not.

    map_side: with the label maps, squashed to this side, in place of labels. ValueError when the split is empty,
    or a row has no label though `need_labels`.
    """
    budget = memory_budget(memory_gib)
    if dataset.split(split).rows * row_bytes(dataset, map_side) <= budget:
        return TokenStore.read(dataset, split, need_labels=need_labels, map_side=map_side)
    return TokenStream(dataset, split, memory_bytes=budget, need_labels=need_labels, map_side=map_side)


def row_bytes(dataset: TokenDataset, map_side: int | None = None) -> int:
    """Bytes of a decoded row: 16 bits a token, 64 for the label, or 8 a pixel of its label map."""
    return 2 * dataset.info.num_tokens + (8 if map_side is None else map_side**2)


class TokenStream:
    """Rows of a split by their number, like a `TokenStore`, within `memory_bytes` of a node (see `HeldShards`)."""

    def __init__(
        self,
        dataset: TokenDataset,
        split: str,
        *,
        memory_bytes: int,
        need_labels: bool = False,
        crop: Crop | None = None,
        shuffle_rows: int | None = None,
        map_side: int | None = None,
    ):
        check_rows(dataset, split)
        self.map_side = map_side
        if need_labels and map_side is None:  # the marker knows how many there are: nothing has to be read
            check_labels(dataset, split)
        self.dataset, self.split, self.crop, self.memory_bytes = dataset, split, crop, memory_bytes
        self.shards = dataset.split(split).shards
        self.held = HeldShards(
            [shard.rows for shard in self.shards],
            self.read,
            row_bytes=row_bytes(dataset, map_side),
            memory_bytes=memory_bytes,
            shuffle_rows=shuffle_rows,
            num_readers=NUM_READERS,
        )

    def __len__(self) -> int:
        return len(self.held)

    @property
    def shuffle_rows(self) -> int:
        """How many rows are shuffled at a time."""
        return self.held.shuffle_rows

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Labels int64 [N] of all rows, -1 for none; their columns alone are read, and once."""
        tables = (self.dataset.read_columns(self.split, shard, ["label"]) for shard in self.shards)
        return np.concatenate([pc.fill_null(t["label"], -1).to_numpy().astype(np.int64) for t in tables])

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together; has what comes next read ahead."""
        return self.held.step_rows(global_batch_size, seed, step)

    def read(self, shard: int) -> SharedArrays:
        """The arrays of a shard, decoded by the first process of the node that asks for them."""
        chosen = [self.shards[shard]]
        layout = array_layout(self.shards[shard].rows, self.dataset.info.num_tokens, self.map_side)
        return shared_arrays(
            key_of(self.dataset, chosen, self.map_side),
            layout,
            lambda arrays: fill_arrays(arrays, self.dataset, self.split, chosen),
        )

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""
        found = self.held.rows(rows, ("tokens", "labels"))
        layout = array_layout(0, self.dataset.info.num_tokens, self.map_side)
        tokens, labels = found or (np.empty(*layout[name]) for name in ("tokens", "labels"))
        if self.crop is not None:
            tokens = np.ascontiguousarray(center_crop_tokens(tokens, *self.crop))
        return HostBatch(taken(tokens, pinned=pinned), taken(labels, pinned=pinned))

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """The given rows; tokens travel as 16 bits and widen on the device."""
        return self.host_batch(rows, pinned=device.type == "cuda").to(device)

    def cropped(self, grid: tuple[int, int], out_grid: tuple[int, int]) -> TokenStream:
        """The centre crop of every row."""
        return self.changed((grid, out_grid), self.shuffle_rows)

    def in_order(self, shuffle_rows: int) -> TokenStream:
        """The same rows in the order of a run that shuffles so many at a time."""
        return self if shuffle_rows == self.shuffle_rows else self.changed(self.crop, shuffle_rows)

    def changed(self, crop: Crop | None, shuffle_rows: int) -> TokenStream:
        """Another stream of the same rows."""
        return TokenStream(
            self.dataset,
            self.split,
            memory_bytes=self.memory_bytes,
            crop=crop,
            shuffle_rows=shuffle_rows,
            map_side=self.map_side,
        )

    def keys(self, rows: np.ndarray) -> list[str]:
        """What the given rows are called in their source."""
        return keys_of(self.dataset, self.split, rows)

    def close(self) -> None:
        """Read nothing more ahead, after an error."""
        self.held.close()

    def describe(self) -> str:
        """A few words on where the rows are."""
        size = 2 * self.held.rows_held * self.dataset.info.num_tokens / 2**20
        return f"{len(self)} rows streamed, {size:,.0f} MiB of them in memory, shuffled {self.shuffle_rows} at a time"
