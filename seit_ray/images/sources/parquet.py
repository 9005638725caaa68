"""Images inside Parquet files: bytes in a column, label and split in others (the Hugging Face layout too).

The key of a row is its cell of source.key_column; else the path that Hugging Face keeps beside the bytes, where the
first file has one for each row and no two alike; else the name of the file and the row in it. Of files that are
numbered 'train-00000-of-00012' the number is no part of the name, and the rows count on: written anew into more or
fewer files, the rows keep their keys. Rows that are put in front of others, or sorted anew, do not: give an id column.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.records import FoundImages, ImageRecord
from seit_ray.images.sources.ahead import files_at_a_time, read_ahead
from seit_ray.images.sources.columns import cell_key, checked_label, present_columns
from seit_ray.images.sources.keys import Repeats
from seit_ray.images.sources.names import one_form
from seit_ray.images.sources.settings import Columns, SourceSettings
from seit_ray.images.sources.splits import split_name, splits_of_files
from seit_ray.storage import Entry, Folder

_NUMBER = re.compile(r"[-_.]\d+[-_]of[-_]\d+(?=\.parquet$)", re.IGNORECASE)
WITHOUT_IMAGES = ".parquet without a column of images"
Row = tuple[str, int, dict[str, Any]]  # name of the file, number, cells by field


class DamagedParquetError(ValueError):
    """A file that is no Parquet file, or a broken one."""


def found_in_folder(
    source: Folder, entries: Iterable[Entry], settings: SourceSettings, left_out: Counter[str]
) -> FoundImages:
    """The images of all Parquet files of a folder, with the split of each file."""
    versions = {entry.name: entry.version for entry in entries if settings.takes_file(entry.name, left_out)}

    def has_images(name: str) -> bool:
        return has_image_column(source, name, settings.image_column)

    splits = splits_of_files(versions, source.uri, find_splits=settings.find_splits, has_images=has_images)
    if len(splits) < len(versions):
        left_out[WITHOUT_IMAGES] += len(versions) - len(splits)
    return found_in_files(source, splits, versions, settings, left_out)


def found_in_files(
    folder: Folder,
    splits: dict[str, str | None],
    versions: dict[str, str],
    settings: SourceSettings,
    left_out: Counter[str],
) -> FoundImages:
    """splits, versions: of each file by name, in the order to read them."""
    keys, class_names = RowKeys(), None
    for name in splits:
        schema, columns = parquet_schema(folder, name), settings.columns
        present_columns(schema.names, folder.uri_of(name), columns, "image")
        check_image_column(schema, columns.image, folder.uri_of(name))
        class_names = class_label_names(schema, columns.label)
        keys.by_path = not columns.key and has_own_paths(folder, name, schema, columns.image)
        break  # one file shows, before the work starts, whether the columns are right

    def records() -> Iterator[ImageRecord]:
        test_serves = "test"
        if settings.find_splits and not any(splits.values()):
            test_serves = _test_serves(folder, splits, settings.columns)

        def rows_of(name: str) -> Iterator[Row]:
            return file_rows(folder, name, settings, class_names, by_path=keys.by_path)

        for name, row, values in read_ahead(splits, rows_of, files_at_a_time(folder)):
            split = splits[name] or split_name(values.get("split"))
            if split == "test" and splits[name] is None:
                split = test_serves
            where, label = f"row {row} of {folder.uri_of(name)}", values.get("label")
            key, repeats = keys.of(name, row, values, where)
            uri = f"{folder.uri_of(name)}#{row}"
            yield ImageRecord(key, uri, checked_label(label, where), split, None, versions.get(name), repeats)

    return FoundImages("parquet", class_names, records(), left_out)


def _test_serves(folder: Folder, names: Iterable[str], columns: Columns) -> str:
    """What the cells 'test' of a column of splits serve as: val, where no cell says so."""

    def names_of(name: str) -> Iterator[str | None]:
        if columns.split in parquet_schema(folder, name).names:
            for _, rows in row_groups(folder, name, {"split": columns.split}):
                yield from {split_name(row["split"]) for row in rows}

    return "test" if "val" in read_ahead(names, names_of, files_at_a_time(folder)) else "val"


@dataclass
class RowKeys:
    """The keys of rows: see above. by_path: whether the paths beside the bytes are keys."""

    by_path: bool = False
    repeats: Repeats = field(default_factory=Repeats)
    counted: Counter[str] = field(default_factory=Counter)  # rows of the files of one name without their numbers

    def of(self, name: str, row: int, values: dict[str, Any], where: str) -> tuple[str, str | None]:
        """(key, key that it repeats) of a row."""
        if "key" in values:
            return self.repeats.unique(cell_key(values["key"], where))
        path = values.get("path") if self.by_path else None
        if path:
            return self.repeats.unique(one_form(path))
        plain = _NUMBER.sub("", name)
        if plain == name:
            return f"{one_form(name)}#{row}", None
        self.counted[plain] += 1
        return f"{one_form(plain)}#{self.counted[plain] - 1}", None


def file_rows(
    folder: Folder, name: str, settings: SourceSettings, class_names: list[str] | None, *, by_path: bool
) -> Iterator[Row]:
    """The rows of one Parquet file of images: its name, the row, and label, split, key and path; reads no images."""
    uri, columns = folder.uri_of(name), settings.columns
    schema = parquet_schema(folder, name)
    fields = {f: c for f, c in present_columns(schema.names, uri, columns, "image").items() if f != "image"}
    check_image_column(schema, columns.image, uri)
    if class_label_names(schema, columns.label) != class_names:
        raise ValueError(f"class names in {uri} differ from those before; expected the same; write it with the same")
    if by_path and _has_paths(schema, columns.image):
        fields["path"] = f"{columns.image}.path"
    first = 0
    for num_rows, rows in row_groups(folder, name, fields):
        for number in range(num_rows):
            values = rows[number] if rows else {}
            if class_names is not None and values.get("label") == -1:  # how Hugging Face writes "not labelled"
                values["label"] = None
            yield name, first + number, values
        first += num_rows


def has_image_column(folder: Folder, name: str, column: str) -> bool:
    """Whether a Parquet file has a column that may hold the bytes of images."""
    schema = parquet_schema(folder, name)
    return column in schema.names and image_type_fault(schema.field(column).type) is None


def check_image_column(schema: pa.Schema, column: str, uri: str) -> None:
    """ValueError unless the column holds bytes, or structs with bytes."""
    fault = image_type_fault(schema.field(column).type)
    if fault:
        raise ValueError(f"column {column!r} in {uri} {fault}")


def image_type_fault(kind: pa.DataType) -> str | None:
    """What is wrong with the type of a column of images, and the mend; None when it is right."""
    expected = "expected the bytes of encoded images (binary, or a struct with a field 'bytes')"
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        if "bytes" in names and _is_binary(kind.field("bytes").type):
            return None
        return f"is a struct of {names}; {expected}; embed the images when you write the file"
    if _is_binary(kind):
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return f"holds text; {expected}; if it holds addresses, set source.kind=table and source.uri_column"
    return f"is of type {kind}; {expected}; convert the column to binary"


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _has_paths(schema: pa.Schema, column: str) -> bool:
    kind = schema.field(column).type
    names = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    return "path" in names and pa.types.is_string(kind.field("path").type)


def has_own_paths(folder: Folder, name: str, schema: pa.Schema, column: str) -> bool:
    """Whether every image of the first row group has a path beside its bytes, and no two the same."""
    if not _has_paths(schema, column):
        return False
    for _, rows in row_groups(folder, name, {"path": f"{column}.path"}):
        paths = [row["path"] for row in rows]
        return bool(all(paths) and len(set(paths)) == len(paths))
    return False


def class_label_names(schema: pa.Schema, label_column: str) -> list[str] | None:
    """The class names that Hugging Face datasets stores beside a column of type ClassLabel."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label_column]["names"] if features[label_column]["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if names else None


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
