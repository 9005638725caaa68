"""Parquet files, read where they lie: their schema, and some columns of their row groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.sources.faults import BrokenFileError
from seit_ray.storage import Folder


class DamagedParquetError(BrokenFileError):
    """A file that is no Parquet file, or a broken one."""


@contextlib.contextmanager
def open_parquet(
    folder: Folder, name: str, buffer_bytes: int = 0, version: str | None = None
) -> Iterator[pq.ParquetFile]:
    """A Parquet file for reading by row group; DamagedParquetError for it and for what is read of it.

    buffer_bytes: that much of a column is read at a time; all of a row group when 0. version: as for `Folder.open`.
    """
    with folder.open(name, version) as file:
        try:
            yield pq.ParquetFile(file, buffer_size=buffer_bytes, page_checksum_verification=True)  # of files with them
        except (pa.ArrowException, OSError) as error:
            raise damaged(folder.uri_of(name), error) from error


def damaged(uri: str, error: Exception) -> DamagedParquetError:
    """For what pyarrow says of a file that it cannot read."""
    reason = " ".join(str(error).split())
    return DamagedParquetError(f"{uri} cannot be read ({reason}); expected a Parquet file; write it again")


def parquet_schema(folder: Folder, name: str, version: str | None = None) -> pa.Schema:
    """The Arrow schema of a Parquet file."""
    with open_parquet(folder, name, version=version) as file:
        return file.schema_arrow


def row_groups(
    folder: Folder,
    name: str,
    fields: dict[str, str],
    groups: tuple[int, int] | None = None,
    version: str | None = None,
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(number of rows, rows as field -> value) of each row group, or of some; no rows are read for no fields."""
    with open_parquet(folder, name, version=version) as file:
        for index in range(*(groups or (0, file.num_row_groups))):
            num_rows = file.metadata.row_group(index).num_rows
            if not fields:
                yield num_rows, []
                continue
            table = file.read_row_group(index, columns=list(fields.values()))
            yield num_rows, cells_of(table, fields)


def cells_of(table: pa.Table, fields: dict[str, str]) -> list[dict[str, Any]]:
    """Rows as field -> value; a column 'a.b' is the field b of the structs in a."""
    columns = []
    for column in fields.values():
        if column in table.column_names:
            columns.append(table[column].to_pylist())
        else:
            outer, _, inner = column.rpartition(".")
            columns.append([value and value.get(inner) for value in table[outer].to_pylist()])
    return [dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=True)]
