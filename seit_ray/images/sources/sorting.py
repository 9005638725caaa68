"""Rows in the order of their keys, however many: sorted runs on the local disk, all cut at the same keys and merged.

In memory are one run while it is read, and one slice with a page of each run while they are merged.
"""

from __future__ import annotations

import math
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import IO

import pyarrow as pa

from seit_ray.storage.errors import explained

RUN_BYTES = 64 << 20  # that are sorted at a time
PAGE_ROWS = 4096  # of a run, that are read together
MARKS = 100  # a slice's worth of each run: slices are alike within a hundredth of it, for each run


class SortedRows:
    """Tables of one schema as slices of some `slice_rows` each, ascending by `key`, a column of bytes.

    The runs are files without a name: the system removes them however this process ends.
    """

    def __init__(self, tables: Iterable[pa.Table], slice_rows: int):
        self.slice_rows, self.num_rows = slice_rows, 0
        self.runs: list[IO[bytes]] = []
        weakref.finalize(self, close, self.runs)
        self.marks: list[bytes] = []  # every so many rows of each run
        held, size = list[pa.Table](), 0
        for table in filter(len, tables):
            held.append(table)
            size += table.nbytes
            if size >= RUN_BYTES:
                self._add_run(pa.concat_tables(held))
                held, size = [], 0
        if held:
            self._add_run(pa.concat_tables(held))

    def _add_run(self, table: pa.Table) -> None:
        table = table.sort_by("key")
        self.num_rows += len(table)
        self.marks += table["key"].take(pa.array(range(0, len(table), max(1, self.slice_rows // MARKS)))).to_pylist()
        with explained(tempfile.gettempdir()):  # the disk may be full
            self.runs.append(tempfile.TemporaryFile())  # noqa: SIM115  # as long as this
            write_run(table, self.runs[-1])

    def slices(self) -> Iterator[pa.Table]:
        """All rows; those of the same key are in the same slice."""
        number, marks = math.ceil(self.num_rows / self.slice_rows), sorted(self.marks)
        ends = [marks[len(marks) * place // number] for place in range(1, number)]
        runs = [_Run(file) for file in self.runs]
        for end in (*dict.fromkeys(ends), None):
            found = [part for run in runs for part in run.up_to(end)]
            if found:
                yield pa.Table.from_batches(found).sort_by("key")


def close(files: list[IO[bytes]]) -> None:
    """Close all of them."""
    for file in files:
        file.close()


def write_run(table: pa.Table, file: IO[bytes]) -> None:
    """A sorted run, in pages."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=PAGE_ROWS)
    file.flush()


class _Run:
    """A sorted run, read from its beginning."""

    def __init__(self, file: IO[bytes]):
        self.file = pa.ipc.open_file(file)
        self.number, self.start, self.page = 0, 0, None

    def up_to(self, end: bytes | None) -> Iterator[pa.RecordBatch]:
        """The next rows whose key is `end` or less; all that are left for None."""
        while self.number < self.file.num_record_batches:
            page = self.page = self.page or self.file.get_batch(self.number)
            keys = page["key"]
            is_whole = end is None or keys[len(page) - 1].as_py() <= end
            stop = len(page) if is_whole else bisect_right(keys, end, lo=self.start, key=lambda key: key.as_py())
            if stop > self.start:
                yield page.slice(self.start, stop - self.start)
            self.start = stop
            if not is_whole:
                return
            self.number, self.start, self.page = self.number + 1, 0, None
