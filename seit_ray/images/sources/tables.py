"""Images named by a table: a row of CSV or Parquet with uri, label, split, and perhaps a key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from seit_ray.images.records import unusable
from seit_ray.images.sources.addresses import address_of, map_address, with_versions
from seit_ray.images.sources.column_types import is_text
from seit_ray.images.sources.columns import cell_key, checked_label, present_columns, text_label
from seit_ray.images.sources.csv_rows import Span, csv_reader, header_of, slices_of
from seit_ray.images.sources.division import MAY_REPEAT, Division, File, Piece, Seen, Tally
from seit_ray.images.sources.faults import is_of_a_file, own_fault
from seit_ray.images.sources.names import one_form, suffix_of
from seit_ray.images.sources.parquet_files import open_parquet, parquet_schema, row_groups
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.images.sources.splits import split_name, split_of_cell
from seit_ray.storage import Folder, StorageError

SLICE_ROWS = 250_000  # of a piece
Rows = Iterator[tuple[str, dict[str, Any]]]  # (where, for messages; field -> cell)


def pieces_of(
    folder: Folder, table: File, settings: SourceSettings, *, is_sample: bool = False
) -> tuple[dict[str, str], tuple[Piece, ...]]:
    """(column by field, pieces) of a CSV or Parquet table: slices of its rows, or of its row groups."""
    name, columns = table.name, settings.columns
    uri = folder.uri_of(name)
    if suffix_of(name) == ".csv":
        fields = present_columns(header_of(folder, table), uri, columns, "uri")
        spans = [None] if is_sample else slices_of(folder, table)
        return fields, tuple(Piece(files=(table,), span=span) for span in spans)
    schema = parquet_schema(folder, name)
    fields = present_columns(schema.names, uri, columns, "uri")
    if "mask" in fields and not is_text(schema.field(fields["mask"]).type):
        raise ValueError(
            f"column {fields['mask']!r} in {uri} is of type {schema.field(fields['mask']).type}; expected addresses of "
            f"label maps, as {fields['uri']!r} has those of images; correct source.mask_column, or write the images "
            "into it too, in source.image_column"
        )
    with open_parquet(folder, name) as file:
        rows = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    pieces, first, number = [], 0, 0
    for index, num_rows in enumerate(rows, 1):
        number += num_rows
        if number >= SLICE_ROWS or index == len(rows):
            pieces.append(Piece(files=(table,), groups=(first, index)))
            first, number = index, 0
    return fields, tuple(pieces)


def seen(division: Division, piece: Piece, tally: Tally) -> Iterator[Seen]:
    """The rows of a piece of a table, in order."""
    del tally  # of a table nothing is left out
    found = _seen(division, piece)
    try:
        yield from with_versions(found, division.folder) if division.settings.has_maps else found
    except StorageError as error:
        if not is_of_a_file(error, division):
            raise
        raise own_fault(error) from error


def _seen(division: Division, piece: Piece) -> Iterator[Seen]:
    folder, settings = division.folder, division.settings
    for where, cells in _rows(division, piece, division.columns):
        written = cells["uri"]
        if not isinstance(written, str) or not written:
            raise ValueError(f"uri {written!r} in {where}; expected a uri; remove or mend the row")
        uri, fault = address_of(written, folder, settings)
        key = cell_key(cells["key"], where) if "key" in cells else one_form(_relative(uri, folder))
        split, place = split_of_cell(cells.get("split"), division.serves)
        if fault is not None:
            uri = unusable(fault)
        label = checked_label(cells.get("label"), where)
        mask = map_address(cells["mask"], where, folder, settings) if "mask" in cells else None
        yield Seen(key, uri, label, split, place=place, of_key=MAY_REPEAT, mask=mask)


def holds_val(division: Division) -> bool:
    """Whether a cell of the column of splits says val."""
    fields = {"split": division.columns["split"]}
    return any(
        split_name(cells["split"]) == "val" for piece in division.pieces for _, cells in _rows(division, piece, fields)
    )


def _rows(division: Division, piece: Piece, fields: dict[str, str]) -> Rows:
    (table,) = piece.files
    if suffix_of(table.name) == ".csv":
        return _csv_rows(division.folder, table, fields, piece.span)
    return _parquet_rows(division.folder, table, fields, piece.groups)


def _relative(uri: str, folder: Folder) -> str:
    """What a listing of the folder would call the image, for those below it; the whole uri for others."""
    return uri.removeprefix(folder.uri.rstrip("/") + "/")


def _csv_rows(folder: Folder, table: File, fields: Mapping[str, str], span: Span | None) -> Rows:
    uri, header = folder.uri_of(table.name), header_of(folder, table)
    places = {field: header.index(column) for field, column in fields.items()}
    before = span[2] if span else 0
    with csv_reader(folder, table, span) as reader:
        if not span or not span[0]:
            next(reader)  # the header
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"line {before + reader.line_num} of {uri} has {len(cells)} fields; expected "
                    f"{len(header)} as in the header; quote fields that hold a comma"
                )
            values: dict[str, Any] = {field: cells[place].strip() for field, place in places.items()}
            values["label"] = text_label(values.get("label"))
            yield f"line {before + reader.line_num} of {uri}", values


def _parquet_rows(folder: Folder, table: File, fields: dict[str, str], groups: tuple[int, int] | None) -> Rows:
    name, version = table.name, table.version or None
    uri = folder.uri_of(name)
    with open_parquet(folder, name, version=version) as file:
        first = sum(file.metadata.row_group(index).num_rows for index in range(groups[0] if groups else 0))
    for _, rows in row_groups(folder, name, fields, groups, version):
        for row, values in enumerate(rows, first):
            yield f"row {row} of {uri}", values
        first += len(rows)
