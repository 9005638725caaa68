"""The files of a piece while it is listed, see `pieces`, and what is said of it when it is finished."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.classes import code_of
from seit_ray.images.repeats import hash_of
from seit_ray.images.sources.division import COUNTED, MAY_REPEAT, Seen, SeenRun, Tally
from seit_ray.images.sources.maps import map_rows
from seit_ray.storage import Folder

FILE_ROWS = 65_536  # and up to a run of images more
# Pieces are listed by many threads, for each of which Arrow's own pool keeps some MiB: rows lie in another one, and one
# thread encodes the files of all.
POOL = pa.system_memory_pool()
SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "uri": pa.string(),  # null: the key behind the root of the source
        "label": pa.int32(),
        "split": pa.int32(),
        "size_bytes": pa.int64(),
        "version": pa.string(),
        "hash": pa.uint64(),  # of a key that may come again
        "counted": pa.bool_(),  # a key behind which a number comes; null for others
    }
)
MASKED_SCHEMA = pa.schema([*SCHEMA, pa.field("mask", pa.string()), pa.field("mask_version", pa.string())])


@cache
def encoder(pid: int) -> ThreadPoolExecutor:
    """The thread of a process: a fork does not have that of its parent."""
    return ThreadPoolExecutor(1, thread_name_prefix="encoder")


def parquet_bytes(table: pa.Table, codes: list[str]) -> bytes:
    """A file of these rows; codes: columns with few values."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=codes, write_statistics=False)
    return sink.getvalue()


@dataclass(frozen=True)
class PieceCounts:
    """What is known of a finished piece. labels, splits: what the numbers in its rows stand for.

    splits: (split, place), see `Seen`, in the order in which they were met. num_hashed: keys that may come again.
    """

    num_rows: int
    num_files: int
    num_hashed: int
    labels: list[str | int]
    splits: list[tuple[str, str | None]]
    tally: Tally
    num_map_files: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**vars(self), "tally": self.tally.as_dict()}

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> PieceCounts:
        """What `as_dict` gave."""
        splits = [(split, place) for split, place in values["splits"]]
        return cls(**{**values, "splits": splits, "tally": Tally.of_dict(values["tally"])})


def rows_name(number: int, file: int) -> str:
    """A file of a piece."""
    return f"{number:05}/rows-{file:05}.parquet"


def maps_name(number: int, file: int) -> str:
    """A file of its label maps."""
    return f"{number:05}/maps-{file:05}.parquet"


@dataclass
class PieceWriter:
    """Collects the images and label maps of a piece and writes each full file.

    has_masks: whether each image says its own label map, beside what else is said of it.
    """

    folder: Folder
    number: int
    has_masks: bool = False
    labels: dict[str | int, int] = field(default_factory=dict)
    splits: dict[tuple[str, str | None], int] = field(default_factory=dict)
    num_rows: int = 0
    num_files: int = 0
    num_hashed: int = 0
    maps: tuple[list[str], list[str | None]] = field(default_factory=lambda: ([], []))  # names, versions
    num_map_files: int = 0

    def __post_init__(self) -> None:
        self.schema = MASKED_SCHEMA if self.has_masks else SCHEMA
        self.rows: list[list[Any]] = [[] for _ in self.schema]  # by column, of those that came one by one at last
        self.held: list[pa.RecordBatch] = []  # before them
        self.num_held = 0

    def add(self, image: Seen) -> None:
        """Takes one."""
        key, uri, label, split, size_bytes, version, place, of_key, *masks = image
        hashed, counted = None, True if of_key == COUNTED else None
        if of_key == MAY_REPEAT:
            hashed = hash_of(key)
            self.num_hashed += 1
        row = (key, uri, code_of(label, self.labels), self._split(split, place), size_bytes, version, hashed, counted)
        for column, value in zip(self.rows, (*row, *masks) if self.has_masks else row, strict=True):
            column.append(value)
        self.num_held += 1
        self._flush_full()

    def add_run(self, run: SeenRun) -> None:
        """Takes some of one label and split."""
        number = len(run.names)
        same = {"label": code_of(run.label, self.labels), "split": self._split(run.split, run.place)}
        given = {"key": run.names, "size_bytes": run.sizes, "version": run.versions}
        self._hold_rows()
        columns = [
            pa.array(given[field.name], field.type, memory_pool=POOL)
            if field.name in given
            else pa.repeat(pa.scalar(same.get(field.name), field.type), number, memory_pool=POOL)
            for field in self.schema
        ]
        self.held.append(pa.RecordBatch.from_arrays(columns, schema=self.schema))
        self.num_held += number
        self._flush_full()

    def _split(self, split: str | None, place: str | None) -> int | None:
        return None if split is None else self.splits.setdefault((split, place), len(self.splits))

    def _flush_full(self) -> None:
        if self.num_held >= FILE_ROWS:
            self._flush()

    def _hold_rows(self) -> None:
        if self.rows[0]:
            arrays = [pa.array(column, field.type) for column, field in zip(self.rows, self.schema, strict=True)]
            self.held.append(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
            self.rows = [[] for _ in self.schema]

    def add_map(self, seen: Seen) -> None:
        """Takes a label map."""
        names, versions = self.maps
        names.append(seen.key)
        versions.append(seen.version)
        if len(names) == FILE_ROWS:
            self._flush_maps()

    def _flush(self) -> None:
        self._hold_rows()
        table = pa.Table.from_batches(self.held)
        self._write(rows_name(self.number, self.num_files), table, ["split", "label"])
        self.num_rows += self.num_held
        self.num_files += 1
        self.held, self.num_held = [], 0

    def _flush_maps(self) -> None:
        self._write(maps_name(self.number, self.num_map_files), map_rows(*self.maps), [])
        self.num_map_files += 1
        for column in self.maps:
            column.clear()

    def _write(self, name: str, table: pa.Table, codes: list[str]) -> None:
        self.folder.write(name, encoder(os.getpid()).submit(parquet_bytes, table, codes).result())

    def finish(self, tally: Tally) -> PieceCounts:
        """The counts, when all were added."""
        if self.num_held:
            self._flush()
        if self.maps[0]:
            self._flush_maps()
        names = list(self.labels), list(self.splits)
        return PieceCounts(self.num_rows, self.num_files, self.num_hashed, *names, tally, self.num_map_files)
