"""Images named by a table: a row of CSV or Parquet with uri, label, split, and perhaps a key."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from seit_ray.images.records import ImageRecord, unusable
from seit_ray.images.sources.columns import cell_key, checked_label, present_columns, text_label
from seit_ray.images.sources.keys import Repeats
from seit_ray.images.sources.names import one_form, suffix_of
from seit_ray.images.sources.parquet import parquet_schema, row_groups
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.images.sources.splits import split_name
from seit_ray.storage import Folder, StorageError, is_remote

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

Rows = Iterator[tuple[str, dict[str, Any]]]  # (where, for messages; field -> cell)


def table_records(folder: Folder, name: str, settings: SourceSettings) -> Iterator[ImageRecord]:
    """Rows of a CSV or Parquet table, in order; the columns are checked at once."""
    uri, columns = folder.uri_of(name), settings.columns
    if suffix_of(name) == ".csv":
        with _csv_reader(folder, name) as reader:
            header = [cell.strip() for cell in next(reader, [])]
        fields = present_columns(header, uri, columns, "uri")
        places = {field: header.index(column) for field, column in fields.items()}
        return _records(folder, lambda wanted: _csv_rows(folder, name, len(header), places), fields, settings)
    fields = present_columns(parquet_schema(folder, name).names, uri, columns, "uri")
    return _records(folder, lambda wanted: _parquet_rows(folder, name, wanted), fields, settings)


def _records(
    folder: Folder, rows_of: Callable[[dict[str, str]], Rows], fields: dict[str, str], settings: SourceSettings
) -> Iterator[ImageRecord]:
    """rows_of: (field -> column) -> Rows, read anew each time."""
    repeats, test_serves = Repeats(), "test"
    if "split" in fields and settings.find_splits:  # the cells of a column are few bytes beside the images
        splits = {split_name(cells["split"]) for _, cells in rows_of({"split": fields["split"]})}
        test_serves = "test" if "val" in splits else "val"
    for where, cells in rows_of(fields):
        written = cells["uri"]
        if not isinstance(written, str) or not written:
            raise ValueError(f"uri {written!r} in {where}; expected a uri; remove or mend the row")
        uri, fault = _resolved(folder, written)
        named = cell_key(cells["key"], where) if "key" in fields else one_form(_relative(uri, folder))
        key, known = repeats.unique(named)
        split = split_name(cells.get("split"))
        split = test_serves if split == "test" else split
        if fault is not None:
            uri = unusable(fault)
        elif folder.is_remote and not is_remote(uri) and not settings.allow_files:
            uri = unusable(
                f"{uri} is a file of the machine that reads it; expected an object, as the table lies in a bucket; set "
                "source.allow_files=true to read files"
            )
        yield ImageRecord(key, uri, checked_label(cells.get("label"), where), split, None, None, known)


def _resolved(folder: Folder, written: str) -> tuple[str, str | None]:
    """(address, why it cannot be read): one https:// address that is none is that image's fault, not the table's."""
    try:
        return folder.resolve(written), None
    except StorageError as error:
        if error.kind != "refused":
            raise
        return written, str(error)


def _relative(uri: str, folder: Folder) -> str:
    """What a listing of the folder would call the image, for those below it; the whole uri for others."""
    return uri.removeprefix(folder.uri.rstrip("/") + "/")


def _csv_rows(folder: Folder, name: str, width: int, places: Mapping[str, int]) -> Rows:
    uri = folder.uri_of(name)
    with _csv_reader(folder, name) as reader:
        next(reader, None)
        rows = (cells for cells in reader if cells)
        for row, cells in enumerate(rows):
            if len(cells) != width:
                raise ValueError(
                    f"line {reader.line_num} of {uri} has {len(cells)} fields; expected "
                    f"{width} as in the header; quote fields that hold a comma"
                )
            values: dict[str, Any] = {field: cells[place].strip() for field, place in places.items()}
            values["label"] = text_label(values.get("label"))
            yield f"row {row} of {uri}", values


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


def _parquet_rows(folder: Folder, name: str, fields: dict[str, str]) -> Rows:
    first, uri = 0, folder.uri_of(name)
    for _, rows in row_groups(folder, name, fields):
        for row, values in enumerate(rows, first):
            yield f"row {row} of {uri}", values
        first += len(rows)
