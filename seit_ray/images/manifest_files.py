"""The Parquet files of a manifest: one split's rows, written a file at a time."""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seit_ray.storage import Folder

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "key": pa.string(),
        "uri": pa.string(),
        "label": pa.int32(),
        "version": pa.string(),
        "size_bytes": pa.int64(),
    }
)
MASKED_SCHEMA = pa.schema([*SCHEMA, pa.field("mask_uri", pa.string()), pa.field("mask_version", pa.string())])
GROUP_ROWS, FILE_ROWS = 1024, 16_384  # rows that are read together; rows a file where nobody says how many
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FILE_NAME = re.compile(r"[^/]+/rows-\d{5,}\.parquet")


def schema_of(void: int | None) -> pa.Schema:
    """Columns of a listing's files; void: that of its label maps, None for images without maps."""
    return SCHEMA if void is None else MASKED_SCHEMA


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
    """Collects the rows of a split and writes each full file."""

    folder: Folder
    name: str
    rows_per_file: int
    num_images: int = 0
    num_files: int = 0
    size_bytes: int | None = 0
    held: list[pa.Table] = field(default_factory=list)
    num_held: int = 0

    def __post_init__(self) -> None:
        if not _SPLIT_NAME.fullmatch(self.name):
            raise ValueError(
                f"split {self.name!r}; expected letters, digits, '.', '_' and '-', with a letter or digit "
                "first; rename it"
            )

    def add(self, rows: pa.Table) -> None:
        """Takes the next rows, as `schema_of` says."""
        if self.size_bytes is not None:
            sizes = rows["size_bytes"]
            self.size_bytes = None if sizes.null_count else self.size_bytes + (pc.sum(sizes).as_py() or 0)
        while len(rows):
            taken = rows.slice(0, self.rows_per_file - self.num_held)
            self.held.append(taken)
            self.num_held += len(taken)
            rows = rows.slice(len(taken))
            if self.num_held == self.rows_per_file:
                self.flush()

    def flush(self) -> None:
        """Writes what is held as the next file."""
        if not self.held:
            return
        table = pa.concat_tables(self.held).combine_chunks()
        sink = io.BytesIO()
        codes = ["label"]  # what else is there hardly repeats itself, and nobody asks which group holds what
        pq.write_table(
            table, sink, row_group_size=GROUP_ROWS, compression="zstd", use_dictionary=codes, write_statistics=False
        )
        self.folder.write(file_name(self.name, self.num_files), sink.getvalue())
        self.num_images += len(table)
        self.num_files += 1
        self.held, self.num_held = [], 0

    def listing(self, rows_per_part: int) -> SplitListing:
        """The counts, after the last flush."""
        return SplitListing(self.num_images, -(-self.num_images // rows_per_part), self.size_bytes)


def delete_leftovers(folder: Folder, writers: Collection[SplitWriter]) -> None:
    """Removes files of an earlier, longer listing."""
    written = {file_name(writer.name, number) for writer in writers for number in range(writer.num_files)}
    for entry in folder.list():
        if _FILE_NAME.fullmatch(entry.name) and entry.name not in written:
            folder.delete(entry.name)
