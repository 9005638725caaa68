"""The Parquet files of a manifest: one split's rows, written a file at a time."""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.records import ImageRecord, state_of
from seit_ray.storage import Folder

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "key": pa.string(),
        "uri": pa.string(),
        "label": pa.int32(),
        "state": pa.int64(),
        "version": pa.string(),
        "size_bytes": pa.int64(),
    }
)
MASKED_SCHEMA = pa.schema([*SCHEMA, pa.field("mask_uri", pa.string()), pa.field("mask_version", pa.string())])
GROUP_ROWS, FILE_ROWS = 256, 16_384  # rows that are read together; rows a file where nobody says how many
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FILE_NAME = re.compile(r"[^/]+/rows-\d{5,}\.parquet")


@dataclass(frozen=True)
class SplitListing:
    """Counts of one split; size_bytes of all its images, None when the source does not tell."""

    num_images: int
    num_parts: int
    size_bytes: int | None


def file_name(split: str, number: int) -> str:
    """One of the files, in the folder of the manifest."""
    return f"{split}/rows-{number:05}.parquet"


@dataclass
class SplitWriter:
    """Collects the records of a split and writes each full file."""

    folder: Folder
    name: str
    rows_per_file: int
    schema: pa.Schema = SCHEMA
    num_images: int = 0
    num_files: int = 0
    size_bytes: int | None = 0
    rows: list[tuple[int | str | None, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not _SPLIT_NAME.fullmatch(self.name):
            raise ValueError(
                f"split {self.name!r}; expected letters, digits, '.', '_' and '-', with a letter or digit "
                "first; rename it"
            )

    def add(self, number: int, record: ImageRecord, code: int | None) -> None:
        """Takes one record; number is its place in the whole listing."""
        state = state_of(record, self.name)
        row = (number, record.key, record.uri, code, state, record.version, record.size_bytes)
        self.rows.append((*row, record.mask, record.mask_version)[: len(self.schema)])
        if self.size_bytes is not None:
            self.size_bytes = None if record.size_bytes is None else self.size_bytes + record.size_bytes
        if len(self.rows) == self.rows_per_file:
            self.flush()

    def flush(self) -> None:
        """Writes what is held as the next file."""
        if not self.rows:
            return
        table = pa.table(
            [pa.array(c, f.type) for c, f in zip(zip(*self.rows, strict=True), self.schema, strict=True)],
            schema=self.schema,
        )
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=GROUP_ROWS, compression="zstd")
        self.folder.write(file_name(self.name, self.num_files), sink.getvalue())
        self.num_images += len(self.rows)
        self.num_files += 1
        self.rows.clear()

    def listing(self, rows_per_part: int) -> SplitListing:
        """The counts, after the last flush."""
        return SplitListing(self.num_images, -(-self.num_images // rows_per_part), self.size_bytes)


def delete_leftovers(folder: Folder, writers: Collection[SplitWriter]) -> None:
    """Removes files of an earlier, longer listing."""
    written = {file_name(writer.name, number) for writer in writers for number in range(writer.num_files)}
    for entry in folder.list():
        if _FILE_NAME.fullmatch(entry.name) and entry.name not in written:
            folder.delete(entry.name)
