"""Images named by a table: a row of CSV or Parquet with uri, label, split."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seit_ray.images.records import ImageRecord, split_name
from seit_ray.images.sources.columns import checked_label, present_columns, text_label
from seit_ray.images.sources.parquet import parquet_schema, row_groups
from seit_ray.images.sources.settings import Columns
from seit_ray.storage import Folder

if TYPE_CHECKING:
    from _csv import Reader as CsvReader


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
    for _, rows in row_groups(folder, name, fields):
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
