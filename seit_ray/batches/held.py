"""Shards of a split in memory, one copy of each a node: as many as it may hold, the next ones on their way.

An epoch goes through the shards in an order of its own. As many as half the memory holds are shuffled together; the
other half is for the ones after them, which threads read meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from seit_ray.batches.sampler import buffered_order, shuffle_groups, step_rows
from seit_ray.batches.shared import SharedArrays

LARGE_BYTES = 2 << 10  # of a row: of a picture, not of tokens


class HeldShards:
    """Rows by their number, within `memory_bytes` of a node (two shards at least). N rows, G global batch.

    read: number of a shard -> its arrays. shuffle_rows, half of what the memory holds by default, decides the order of
    an epoch: a run keeps to it. num_readers threads read ahead; twice as many shards are on their way.
    """

    def __init__(
        self,
        shard_rows: Sequence[int],
        read: Callable[[int], SharedArrays],
        *,
        row_bytes: int,
        memory_bytes: int,
        shuffle_rows: int | None,
        num_readers: int,
    ):
        self.shard_rows, self.read = tuple(shard_rows), read
        self.starts = np.cumsum([0, *self.shard_rows])
        rows_held = max(memory_bytes // row_bytes, 2 * max(self.shard_rows))
        self.shuffle_rows = min(len(self), rows_held // 2 if shuffle_rows is None else shuffle_rows)
        self.rows_held = max(rows_held, 2 * self.shuffle_rows)
        self.num_readers = num_readers
        self._held: OrderedDict[int, SharedArrays] = OrderedDict()
        self.num_held = 0  # rows in memory now
        self._current: frozenset[int] = frozenset()  # shards that are shuffled together now
        self._following: frozenset[int] = frozenset()
        self._coming: dict[int, Future[SharedArrays]] = {}
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(num_readers, "shards")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together; has what comes next read ahead."""
        self.read_ahead(*divmod(step * global_batch_size, len(self)), seed)
        order = buffered_order(self.shard_rows, self.shuffle_rows)
        return step_rows(len(self), global_batch_size, seed, step, order)

    def read_ahead(self, epoch: int, position: int, seed: int) -> None:
        """Go on reading the shards around a position of an epoch: those shuffled together there, and the next ones."""
        groups = shuffle_groups(self.shard_rows, self.shuffle_rows, seed, epoch)
        ends = np.cumsum([sum(self.shard_rows[shard] for shard in group) for group in groups])
        number = int(np.searchsorted(ends, position, "right"))
        following = groups[number + 1 :] or shuffle_groups(self.shard_rows, self.shuffle_rows, seed, epoch + 1)
        with self._lock:
            self._current, self._following = frozenset(groups[number]), frozenset(following[0])
        self.begin([*rotated(groups[number]), *rotated(following[0])])

    def begin(self, shards: Iterable[int]) -> None:
        """Have shards read that are neither held nor on their way; no more than there is room for."""
        with self._lock:
            for shard, coming in list(self._coming.items()):
                if coming.done() and not coming.exception():
                    self._hold(shard, self._coming.pop(shard).result())
            # each once: what is read twice at a time is read in vain, and by a second reader
            wanted = [shard for shard in dict.fromkeys(shards) if not (shard in self._held or shard in self._coming)]
            for shard in wanted[: max(0, 2 * self.num_readers - len(self._coming))]:
                self._coming[shard] = self._readers.submit(self.read, shard)

    def rows(self, rows: np.ndarray | slice, names: Sequence[str]) -> list[np.ndarray]:
        """The named arrays at the given rows. Those that follow a slice, as evaluations ask for them, come ahead."""
        is_run = isinstance(rows, slice)
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        found = np.searchsorted(self.starts, rows, "right") - 1
        shards = np.unique(found).tolist()
        after = range(shards[-1] + 1, len(self.shard_rows))[: self.num_readers] if is_run and shards else ()
        taken: list[np.ndarray] = []
        local = rows - self.starts[found]
        for number, shard in enumerate(shards):
            wanted = [*shards[number : number + self.num_readers], *after]
            if not all(other in self._held for other in wanted):
                self.begin(wanted)
            arrays, here = self.arrays(shard), np.flatnonzero(found == shard)
            taken = taken or [np.empty((len(rows), *arrays[n].shape[1:]), arrays[n].dtype) for n in names]
            for into, name in zip(taken, names, strict=True):
                copy_rows(into, here, arrays[name], local[here])
        return taken

    def arrays(self, shard: int) -> SharedArrays:
        """The arrays of a shard, from memory where they are there."""
        with self._lock:
            found, coming = self._held.get(shard), self._coming.get(shard)
        try:
            if found is None:
                found = self.read(shard) if coming is None else coming.result()
        except BaseException:
            with self._lock:  # it may be read again
                self._coming.pop(shard, None)
            raise
        with self._lock:
            self._coming.pop(shard, None)
            self._hold(shard, found)
        return found

    def _hold(self, shard: int, arrays: SharedArrays) -> None:
        """Keep a shard, and let go of others where there is no room; under the lock.

        Those of groups that are over go first, the same ones in every process, and those of the current group last;
        else what was not used for longest.
        """
        self.num_held += 0 if shard in self._held else self.shard_rows[shard]
        self._held[shard] = arrays
        self._held.move_to_end(shard)
        while len(self._held) > 1 and self.num_held > self.rows_held:
            others = [held for held in self._held if held != shard]
            over = [held for held in others if held not in self._current and held not in self._following]
            later = [held for held in others if held not in self._current]
            gone = (over or later or others)[0]
            del self._held[gone]
            self.num_held -= self.shard_rows[gone]

    def close(self) -> None:
        """Read nothing more ahead: who ends by an error does not wait for what is on its way."""
        self._readers.shutdown(wait=False, cancel_futures=True)


def copy_rows(into: np.ndarray, places: np.ndarray, source: np.ndarray, rows: np.ndarray) -> None:
    """into[places] = source[rows]; large rows, as of pictures, one by one, without a copy on the way."""
    if source[:1].nbytes < LARGE_BYTES:
        into[places] = source[rows]
        return
    for place, row in zip(places.tolist(), rows.tolist(), strict=True):
        into[place] = source[row]


def rotated(shards: Sequence[int]) -> list[int]:
    """The shards, begun elsewhere by each process of a node: what one of them reads, the others need not."""
    place = os.getpid() % len(shards)
    return [*shards[place:], *shards[:place]]
