"""Images inside Parquet files: bytes in a column, label and split in others (the Hugging Face layout too)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.records import FoundImages, ImageRecord, split_name, splits_of
from seit_ray.images.sources.columns import checked_label, present_columns
from seit_ray.images.sources.names import stem_of, suffix_of
from seit_ray.images.sources.settings import Columns
from seit_ray.storage import Folder


class DamagedParquetError(ValueError):
    """A file that is no Parquet file, or a broken one."""


def found_in_folder(source: Folder, columns: Columns) -> FoundImages:
    """The images of all Parquet files of a folder, with the split of each file."""
    names = [entry.name for entry in source.list() if suffix_of(entry.name) == ".parquet"]
    by_folder = splits_of(source.list_folders())
    by_name = splits_of({stem_of(name) for name in names})
    splits = {name: by_folder.get(name.partition("/")[0]) or by_name.get(stem_of(name)) for name in names}
    return found_in_files(source, splits, columns)


def found_in_files(folder: Folder, splits: dict[str, str | None], columns: Columns) -> FoundImages:
    """splits: file name -> split, in the order to read them."""
    class_names = None
    for name in splits:
        schema = parquet_schema(folder, name)
        present_columns(schema.names, folder.uri_of(name), columns, "image")
        class_names = class_label_names(schema, columns.label)
        break  # one file shows, before the work starts, whether the columns are right

    def records() -> Iterator[ImageRecord]:
        for name, split in splits.items():
            yield from parquet_records(folder, name, columns, split, class_names)

    return FoundImages("parquet", class_names, records())


def parquet_records(
    folder: Folder, name: str, columns: Columns, split: str | None, class_names: list[str] | None
) -> Iterator[ImageRecord]:
    """The rows of one Parquet file of images; reads label and split, not the images."""
    uri = folder.uri_of(name)
    schema = parquet_schema(folder, name)
    fields = present_columns(schema.names, uri, columns, "image")
    if class_label_names(schema, columns.label) != class_names:
        raise ValueError(f"class names in {uri} differ from those before; expected the same; write it with the same")
    first, version = 0, next((entry.version for entry in folder.list(name) if entry.name == name), None)
    for num_rows, rows in row_groups(folder, name, {f: c for f, c in fields.items() if f != "image"}):
        for row in range(first, first + num_rows):
            values = rows[row - first] if rows else {}
            label = checked_label(values.get("label"), f"row {row} of {uri}")
            if class_names is not None and label == -1:  # how Hugging Face writes "not labelled"
                label = None
            part_of = split or split_name(values.get("split"))
            yield ImageRecord(f"{name}#{row}", f"{uri}#{row}", label, part_of, None, version)
        first += num_rows


def class_label_names(schema: pa.Schema, label_column: str) -> list[str] | None:
    """The class names that Hugging Face datasets stores beside a column of type ClassLabel."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label_column]["names"] if features[label_column]["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if names else None


@contextlib.contextmanager
def open_parquet(folder: Folder, name: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file for reading by row group; DamagedParquetError for it and for what is read of it."""
    with folder.open(name) as file:
        try:
            yield pq.ParquetFile(file, page_checksum_verification=True)  # of files that have them
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise DamagedParquetError(
                f"{folder.uri_of(name)} cannot be read ({reason}); expected a Parquet file; write it again"
            ) from error


def parquet_schema(folder: Folder, name: str) -> pa.Schema:
    """The Arrow schema of a Parquet file."""
    with open_parquet(folder, name) as file:
        return file.schema_arrow


def row_groups(folder: Folder, name: str, fields: dict[str, str]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(number of rows, rows as field -> value) of each row group; no rows are read for no fields."""
    with open_parquet(folder, name) as file:
        for index in range(file.num_row_groups):
            num_rows = file.metadata.row_group(index).num_rows
            if not fields:
                yield num_rows, []
                continue
            table = file.read_row_group(index, columns=list(fields.values()))
            yield num_rows, table.select(list(fields.values())).rename_columns(list(fields)).to_pylist()
