"""Images named by a table (CSV or Parquet rows of uri, label, split), and images inside Parquet files."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.records import ImageRecord, missing_column, split_name
from seit_ray.images.sources.settings import Columns
from seit_ray.storage import Folder

if TYPE_CHECKING:
    from _csv import Reader as CsvReader


class DamagedParquetError(ValueError):
    """A file that is no Parquet file, or a broken one."""


def csv_records(folder: Folder, name: str, columns: Columns) -> Iterator[ImageRecord]:
    """Rows of a CSV file with a header, in order; the header is checked at once."""
    with _csv_reader(folder, name) as reader:
        header = [cell.strip() for cell in next(reader, [])]
    fields = present_columns(header, folder.uri_of(name), columns, "uri")
    return _csv_rows(folder, name, header, fields)


def _csv_rows(folder: Folder, name: str, header: list[str], fields: dict[str, str]) -> Iterator[ImageRecord]:
    places = {field: header.index(column) for field, column in fields.items()}
    with _csv_reader(folder, name) as reader:
        next(reader, None)
        rows = (cells for cells in reader if cells)
        for row, cells in enumerate(rows):
            if len(cells) != len(header):
                raise ValueError(
                    f"line {reader.line_num} of {folder.uri_of(name)} has {len(cells)} fields; expected "
                    f"{len(header)} as in the header; quote fields that hold a comma"
                )
            values = {field: cells[place].strip() for field, place in places.items()}
            yield _table_record(folder, name, row, values["uri"], text_label(values.get("label")), values.get("split"))


def text_label(text: str | None) -> str | int | None:
    """An integer where the text is one in its shortest form ('7', not '07'), so that no classes merge."""
    try:
        return int(text) if text and str(int(text)) == text else text or None
    except ValueError:
        return text


@contextlib.contextmanager
def _csv_reader(folder: Folder, name: str) -> Iterator[CsvReader]:
    with folder.open(name) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        try:
            yield reader
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"line {reader.line_num + 1} of {folder.uri_of(name)} cannot be read ({error}); "
                "expected CSV in UTF-8; save it so"
            ) from error


def parquet_table_records(folder: Folder, name: str, columns: Columns) -> Iterator[ImageRecord]:
    """Rows of a Parquet table of uris, in order; the schema is checked at once."""
    fields = present_columns(parquet_schema(folder, name).names, folder.uri_of(name), columns, "uri")
    return _parquet_table_rows(folder, name, fields)


def _parquet_table_rows(folder: Folder, name: str, fields: dict[str, str]) -> Iterator[ImageRecord]:
    first = 0
    for _, rows in _row_groups(folder, name, fields):
        for row, values in enumerate(rows, first):
            label = checked_label(values.get("label"), f"row {row} of {folder.uri_of(name)}")
            yield _table_record(folder, name, row, values["uri"], label, values.get("split"))
        first += len(rows)


def _table_record(
    folder: Folder, name: str, row: int, uri: object, label: str | int | None, split: object
) -> ImageRecord:
    """The image of one row. Its key ends in the row: unique without remembering the other rows."""
    if not isinstance(uri, str) or not uri:
        raise ValueError(f"uri {uri!r} in row {row} of {folder.uri_of(name)}; expected a uri; remove or mend the row")
    return ImageRecord(f"{uri}#{row}", folder.resolve(uri), label, split_name(split), None)


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
    for num_rows, rows in _row_groups(folder, name, {f: c for f, c in fields.items() if f != "image"}):
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


def present_columns(found: list[str], uri: str, columns: Columns, needed: str) -> dict[str, str]:
    """Field -> column, for the needed field and for label and split where they are there; else ValueError."""
    fields = {needed: getattr(columns, needed)}
    for field in ("label", "split"):
        column = getattr(columns, field)
        if column in found or column != getattr(Columns, field):
            fields[field] = column
    for field, column in fields.items():
        if column not in found:
            raise missing_column(column, uri, found, f"{field}_column")
    return fields


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


def _row_groups(folder: Folder, name: str, fields: dict[str, str]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(number of rows, rows as field -> value) of each row group; no rows are read for no fields."""
    with open_parquet(folder, name) as file:
        for index in range(file.num_row_groups):
            num_rows = file.metadata.row_group(index).num_rows
            if not fields:
                yield num_rows, []
                continue
            table = file.read_row_group(index, columns=list(fields.values()))
            yield num_rows, table.select(list(fields.values())).rename_columns(list(fields)).to_pylist()


def checked_label(label: object, where: str) -> str | int | None:
    """A label that a file of values gives; ValueError for values that cannot be one."""
    if label is None or isinstance(label, str | int):
        return int(label) if isinstance(label, bool) else label
    raise ValueError(
        f"label of type {type(label).__name__} in {where}; expected an integer or a string; convert the column"
    )
