"""A split that does not fit into memory: shards come from storage as they are needed, one copy of each a node.

An epoch goes through the shards in an order of its own. As many as half the memory holds are shuffled together; the
other half is for the ones after them, which a thread reads meanwhile.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow.compute as pc
import torch

from seit_ray.batches.batch import Batch, HostBatch, gather
from seit_ray.batches.contract import TokenSamples
from seit_ray.batches.crop import center_crop_tokens
from seit_ray.batches.memory import memory_budget
from seit_ray.batches.sampler import shuffle_groups, step_rows
from seit_ray.batches.shared import SharedArrays, shared_arrays
from seit_ray.batches.store import (
    TokenStore,
    array_layout,
    check_labels,
    check_rows,
    fill_arrays,
    key_of,
    keys_of,
    order_of,
)
from seit_ray.shards.dataset import TokenDataset

Crop = tuple[tuple[int, int], tuple[int, int]]  # (grid, out_grid)
NUM_READERS = 2  # threads that read shards ahead; twice as many shards are on their way


def open_split(
    dataset: TokenDataset, split: str, *, need_labels: bool, memory_gib: float | None = None
) -> TokenSamples:
    """A split in memory where it fits into `memory_gib` (half of the node's by default), streamed where it does not.

    ValueError when the split is empty, or a row has no label though `need_labels`.
    """
    budget = memory_budget(memory_gib)
    if dataset.split(split).rows * row_bytes(dataset) <= budget:
        return TokenStore.read(dataset, split, need_labels=need_labels)
    return TokenStream(dataset, split, memory_bytes=budget, need_labels=need_labels)


def row_bytes(dataset: TokenDataset) -> int:
    """Bytes of a decoded row: 16 bits a token, 64 for the label."""
    return 2 * dataset.info.num_tokens + 8


class TokenStream:
    """Rows of a split by their number, like a `TokenStore`, within `memory_bytes` of a node (two shards at least).

    `shuffle_rows`, half of what the memory holds by default, decides the order of an epoch: a run keeps to it.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        split: str,
        *,
        memory_bytes: int,
        need_labels: bool = False,
        crop: Crop | None = None,
        shuffle_rows: int | None = None,
    ):
        num = check_rows(dataset, split)
        if need_labels:  # the marker knows how many there are: nothing has to be read
            check_labels(dataset, split, num - sum(dataset.split(split).label_counts), num)
        self.dataset, self.split, self.crop, self.memory_bytes = dataset, split, crop, memory_bytes
        self.shards = dataset.split(split).shards
        self.shard_rows = tuple(shard.rows for shard in self.shards)
        self.starts = np.cumsum([0, *self.shard_rows])
        rows_held = max(memory_bytes // row_bytes(dataset), 2 * max(self.shard_rows))
        self.shuffle_rows = min(num, rows_held // 2 if shuffle_rows is None else shuffle_rows)
        self.rows_held = max(rows_held, 2 * self.shuffle_rows)
        self._held: OrderedDict[int, SharedArrays] = OrderedDict()
        self._coming: dict[int, Future[SharedArrays]] = {}
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(NUM_READERS, "shards")

    def __len__(self) -> int:
        return int(self.starts[-1])

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Labels int64 [N] of all rows, -1 for none; their columns alone are read, and once."""
        tables = (self.dataset.read_columns(self.split, shard, ["label"]) for shard in self.shards)
        return np.concatenate([pc.fill_null(t["label"], -1).to_numpy().astype(np.int64) for t in tables])

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together; has what comes next read ahead."""
        self.read_ahead(*divmod(step * global_batch_size, len(self)), seed)
        return step_rows(len(self), global_batch_size, seed, step, order_of(self.shard_rows, self.shuffle_rows))

    def read_ahead(self, epoch: int, position: int, seed: int) -> None:
        """Go on reading the shards around a position of an epoch: those shuffled together there, and the next ones."""
        groups = shuffle_groups(self.shard_rows, self.shuffle_rows, seed, epoch)
        ends = np.cumsum([sum(self.shard_rows[shard] for shard in group) for group in groups])
        number = int(np.searchsorted(ends, position, "right"))
        following = groups[number + 1 :] or shuffle_groups(self.shard_rows, self.shuffle_rows, seed, epoch + 1)
        with self._lock:
            for shard, coming in list(self._coming.items()):
                if coming.done() and not coming.exception():
                    self.hold(shard, self._coming.pop(shard).result())
            wanted = [s for s in (*groups[number], *following[0]) if s not in self._held and s not in self._coming]
            for shard in wanted[: max(0, 2 * NUM_READERS - len(self._coming))]:
                self._coming[shard] = self._readers.submit(self.read, shard)

    def read(self, shard: int) -> SharedArrays:
        """The arrays of a shard, decoded by the first process of the node that asks for them."""
        chosen = [self.shards[shard]]
        layout = array_layout(self.shard_rows[shard], self.dataset.info.num_tokens)
        return shared_arrays(
            key_of(self.dataset, chosen),
            layout,
            lambda arrays: fill_arrays(arrays, self.dataset, self.split, chosen),
        )

    def hold(self, shard: int, arrays: SharedArrays) -> None:
        """Keep a shard, and let go of what was not used for longest; under the lock."""
        self._held[shard] = arrays
        self._held.move_to_end(shard)
        while len(self._held) > 1 and sum(self.shard_rows[held] for held in self._held) > self.rows_held:
            self._held.popitem(last=False)

    def arrays(self, shard: int) -> SharedArrays:
        """The arrays of a shard, from memory where they are there."""
        with self._lock:
            found, coming = self._held.get(shard), self._coming.pop(shard, None)
        if found is None:
            found = self.read(shard) if coming is None else coming.result()
        with self._lock:
            self.hold(shard, found)
        return found

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        found = np.searchsorted(self.starts, rows, "right") - 1
        tokens = np.empty((len(rows), self.dataset.info.num_tokens), np.uint16)
        labels = np.empty(len(rows), np.int64)
        for shard in np.unique(found).tolist():
            here = np.flatnonzero(found == shard)
            arrays, local = self.arrays(shard), rows[here] - self.starts[shard]
            tokens[here], labels[here] = arrays["tokens"][local], arrays["labels"][local]
        if self.crop is not None:
            tokens = np.ascontiguousarray(center_crop_tokens(tokens, *self.crop))
        everything = slice(0, len(rows))
        return HostBatch(gather(tokens, everything, pinned=pinned), gather(labels, everything, pinned=pinned))

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
            self.dataset, self.split, memory_bytes=self.memory_bytes, crop=crop, shuffle_rows=shuffle_rows
        )

    def keys(self, rows: np.ndarray) -> list[str]:
        """What the given rows are called in their source."""
        return keys_of(self.dataset, self.split, rows)

    def describe(self) -> str:
        """A few words on where the rows are."""
        size = 2 * self.rows_held * self.dataset.info.num_tokens / 2**20
        return f"{len(self)} rows streamed, {size:,.0f} MiB of them in memory, shuffled {self.shuffle_rows} at a time"
