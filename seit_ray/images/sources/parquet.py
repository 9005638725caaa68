"""Images inside Parquet files: bytes in a column, label and split in others (the Hugging Face layout too).

The key of a row is its cell of source.key_column; else the path that Hugging Face keeps beside the bytes, where the
first file has one for each row and no two alike; else the name of the file and the row in it. Of files that are
numbered 'train-00000-of-00012' the number is no part of the name, and the rows count on: written anew into more or
fewer files, the rows keep their keys. Rows that are put in front of others, or sorted anew, do not: give an id column.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from seit_ray.images.sources.addresses import map_address, with_versions
from seit_ray.images.sources.column_types import (
    check_image_column,
    check_mask_column,
    has_paths,
    image_type_fault,
    is_text,
)
from seit_ray.images.sources.columns import cell_key, checked_label, present_columns
from seit_ray.images.sources.division import COUNTED, MAY_REPEAT, PLAIN, Division, File, Piece, Seen, Tally
from seit_ray.images.sources.faults import rest_of, until_fault
from seit_ray.images.sources.names import one_form
from seit_ray.images.sources.parquet_files import DamagedParquetError, parquet_schema, row_groups
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.images.sources.splits import split_name, split_of_cell, splits_of_files
from seit_ray.storage import Entry, Folder, StorageError

_NUMBER = re.compile(r"[-_.]\d+[-_]of[-_]\d+(?=\.parquet$)", re.IGNORECASE)
FIRST_FILES = 8  # that are tried for the columns that all have
WITHOUT_IMAGES = ".parquet without a column of images"


def files_in(source: Folder, entries: Iterable[Entry], settings: SourceSettings, left_out: Counter[str]) -> list[File]:
    """All Parquet files of a folder, with the split of each."""
    versions = {entry.name: entry.version for entry in entries if settings.takes_file(entry.name, left_out)}

    def has_images(name: str) -> bool:
        return has_image_column(source, name, settings.image_column)

    splits = splits_of_files(versions, source.uri, find_splits=settings.find_splits, has_images=has_images)
    if len(splits) < len(versions):
        left_out[WITHOUT_IMAGES] += len(versions) - len(splits)
    return [File(name, versions[name], split) for name, split in splits.items()]


def shown_by_first(folder: Folder, files: Sequence[File], settings: SourceSettings) -> dict[str, Any]:
    """What the first file that can be read tells of all of them, for a `Division`, before the work starts."""
    if not files:
        return {}
    columns = settings.columns
    name, schema = first_schema(folder, files)
    present_columns(schema.names, folder.uri_of(name), columns, "image")
    check_image_column(schema, columns.image, folder.uri_of(name))
    check_mask_column(schema, columns.mask, folder.uri_of(name))
    return {
        "class_names": class_label_names(schema, columns.label),
        "by_path": not columns.key and has_own_paths(folder, name, schema, columns.image),
        "serves": settings.find_splits and not any(file.split for file in files),
    }


def first_schema(folder: Folder, files: Sequence[File]) -> tuple[str, pa.Schema]:
    """(name, schema) of the first file that can be read; the error of the first one where none of several can."""
    first: Exception | None = None
    for file in files[:FIRST_FILES]:
        try:
            return file.name, parquet_schema(folder, file.name)
        except (DamagedParquetError, StorageError) as error:
            first = first or error
    assert first is not None  # there are files
    raise first


def seen(division: Division, piece: Piece, tally: Tally) -> Iterator[Seen]:
    """The rows of some files of images, one file after the other; of a broken one those before, and one for the rest.

    Of numbered files the rows behind it count on from there, as if it had been left out.
    """
    del tally  # nothing is left out here
    for file in piece.files:
        fault: list[str] = []
        yield from until_fault(seen_in_file(division, file), division, fault)
        yield from rest_of(file, division, fault)


def seen_in_file(division: Division, file: File) -> Iterator[Seen]:
    """Those of one file; label maps are bytes in a column of their own, or lie at the addresses that it holds."""
    folder, mask, found = division.folder, division.settings.columns.mask, _seen(division, file)
    if not mask:
        yield from found
        return
    uri, version = folder.uri_of(file.name), file.version
    schema = parquet_schema(folder, file.name, version or None)
    if mask in schema.names and is_text(schema.field(mask).type):
        yield from with_versions(found, folder)
        return
    for row, image in enumerate(found):
        yield image._replace(mask=f"{uri}#{row}:{mask}", mask_version=version)


def _seen(division: Division, file: File) -> Iterator[Seen]:
    folder, settings = division.folder, division.settings
    uri = folder.uri_of(file.name)
    for row, values in enumerate(file_rows(division, file)):
        split, place = (file.split, None) if file.split else split_of_cell(values.get("split"), division.serves)
        where = f"row {row} of {uri}"
        label = checked_label(values.get("label"), where)
        key, of_key = key_of(file.name, row, values, where, division)
        mask = map_address(values["mask"], where, folder, settings) if "mask" in values else None
        yield Seen(key, f"{uri}#{row}", label, split, None, file.version, place, of_key, mask)


def key_of(name: str, row: int, values: dict[str, Any], where: str, division: Division) -> tuple[str, int]:
    """The key of a row of a file, and what it is: see `Seen`, and above.

    Numbered files beside one that is called as they are without their number keep it.
    """
    if "key" in values:
        return cell_key(values["key"], where), MAY_REPEAT
    path = values.get("path") if division.by_path else None
    if path:
        return one_form(path), MAY_REPEAT
    plain = one_form(_NUMBER.sub("", name))
    if plain not in division.file_names:
        return plain, COUNTED
    return f"{one_form(name)}#{row}", PLAIN if name.isascii() else MAY_REPEAT


def holds_val(division: Division) -> bool:
    """Whether a cell of the column of splits says val."""
    column = division.settings.split_column
    for file in (file for piece in division.pieces for file in piece.files):
        if column in parquet_schema(division.folder, file.name).names:
            for _, rows in row_groups(division.folder, file.name, {"split": column}):
                if any(split_name(row["split"]) == "val" for row in rows):
                    return True
    return False


def file_rows(division: Division, file: File) -> Iterator[dict[str, Any]]:
    """Label, split, key, path and address of the map of the rows of one Parquet file of images; reads no images."""
    folder, columns = division.folder, division.settings.columns
    name, version = file.name, file.version or None
    uri, schema = folder.uri_of(name), parquet_schema(folder, name, version)
    fields = {f: c for f, c in present_columns(schema.names, uri, columns, "image").items() if f != "image"}
    check_image_column(schema, columns.image, uri)
    check_mask_column(schema, columns.mask, uri)
    if "mask" in fields and not is_text(schema.field(columns.mask).type):
        del fields["mask"]  # bytes are read with their images
    if class_label_names(schema, columns.label) != division.class_names:
        raise ValueError(f"class names in {uri} differ from those before; expected the same; write it with the same")
    if division.by_path and has_paths(schema, columns.image):
        fields["path"] = f"{columns.image}.path"
    for num_rows, rows in row_groups(folder, name, fields, version=version):
        for number in range(num_rows):
            values = rows[number] if rows else {}
            if division.class_names is not None and values.get("label") == -1:  # how Hugging Face writes "not labelled"
                values["label"] = None
            yield values


def has_image_column(folder: Folder, name: str, column: str) -> bool:
    """Whether a Parquet file has a column that may hold the bytes of images."""
    schema = parquet_schema(folder, name)
    return column in schema.names and image_type_fault(schema.field(column).type) is None


def has_own_paths(folder: Folder, name: str, schema: pa.Schema, column: str) -> bool:
    """Whether every image of the first row group has a path beside its bytes, and no two the same."""
    if not has_paths(schema, column):
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
