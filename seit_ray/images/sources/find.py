"""Finds out what a source holds, and divides it into pieces that are listed each for itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from seit_ray.images.label_maps import MapLabels
from seit_ray.images.sources import folders, parquet, tables, webdataset
from seit_ray.images.sources.class_names import read_class_names, renamed
from seit_ray.images.sources.division import COUNTED, Division, File, Head, Piece, Seen, SeenRun, Tally
from seit_ray.images.sources.faults import read_named
from seit_ray.images.sources.inventory import inventory_entries, keep_slices, sorted_inventory
from seit_ray.images.sources.layout import LOOK, Beginning, found_layout, of_layout, visible
from seit_ray.images.sources.maps import class_names_of_maps, void_of
from seit_ray.images.sources.names import suffix_of
from seit_ray.images.sources.parquet_files import DamagedParquetError, parquet_schema
from seit_ray.images.sources.settings import EXCLUDED, SourceSettings
from seit_ray.images.sources.tars import COMPRESSED, check_uncompressed
from seit_ray.storage import ONE_STREAM, Entry, Folder, split_uri

DEFAULT = SourceSettings()
KINDS = ("auto", "folders", "flat", "table", "parquet", "webdataset")
READS: dict[str, Callable[[Division, Piece, Tally], Iterator[Seen]]] = {
    "folders": folders.seen,
    "flat": folders.seen,
    "table": tables.seen,
    "parquet": parquet.seen,
    "webdataset": webdataset.seen,
}
HEAD_FILES = 10_000  # that are listed before a folder is divided: most sources have no more
MOST_STRETCHES = 128  # of names
MOST_GROUPS = 1024  # of tars or Parquet files
LOOK_FILES = 10_000  # tars or Parquet files that a sample is of


def divide(
    source: Folder, settings: SourceSettings = DEFAULT, kept: Folder | None = None, *, is_sample: bool = False
) -> Division:
    """The pieces of a folder, or of one image, .csv, .parquet or .tar file, in the order of their names or rows.

    folders: the first folder below the root, or beside a split's folder, is the label. flat: no labels. table:
    a CSV or Parquet file with a row an image: uri (relative ones start at the table's folder), label, split.
    parquet: image bytes in Parquet. webdataset: tars of <key>.jpg and <key>.cls or .json, whose columns are extensions
    and fields of .json. auto: what is there, if that is clear. Splits are found by the names of folders and files (see
    `splits`), or by a column. With settings.has_maps, images have label maps in place of labels. kept: where the
    slices of an inventory are written; without it that is one piece. is_sample: the pieces will not all be read, so
    nothing is spent on dividing. ValueError for what does not fit; nothing found is an error for auto only.
    """
    if settings.kind not in KINDS:
        raise ValueError(f"kind {settings.kind!r}; expected one of {list(KINDS)}; correct it")
    folder, name = _file_of(source, settings) if settings.inventory is None else (source, "")
    kept = None if is_sample else kept
    if name:
        found = read_named(partial(_in_file, folder, name, settings, is_sample=is_sample), folder, name)
    else:
        found = _in_folder(source, settings, kept, is_sample=is_sample)
    if settings.limit is not None:
        note = f"only the first {settings.limit} images of the listing (source.limit)"
        found = replace(found, notes=(*found.notes, note))
    if settings.has_maps:
        return _of_pairs(found, source, settings)
    if not settings.class_names:
        return found
    names = read_class_names(settings.class_names, source)
    return replace(found, renamed=names) if isinstance(names, dict) else replace(found, listed_classes=names)


def images_of(
    division: Division, number: int, tally: Tally, *, by_runs: bool = False
) -> Iterator[Seen] | Iterator[Seen | SeenRun]:
    """The images of a piece that the settings take, labelled as they say; counts what else is there.

    by_runs: many at a time where that is possible.
    """
    piece, settings, head = division.pieces[number], division.settings, division.head
    listed = None
    if number == 0 and head is not None:
        tally.add(head.tally)
        listed = head.entries
    if by_runs and folders.has_runs(division, piece):
        return _named(division, folders.seen_by_runs(division, piece, tally, listed))
    if listed is not None:
        return _named(division, folders.seen(division, piece, tally, listed))
    found = READS[division.kind](division, piece, tally)
    if (settings.include or settings.exclude) and division.kind not in ("folders", "flat"):  # these ask themselves
        found = _matching(found, settings, tally)
    return _named(division, found)


def holds_val(division: Division, place: str) -> bool:
    """Whether a source has images of a val set at a place, for a listing that does not look at all of it."""
    if division.kind in ("folders", "flat"):
        return folders.holds_val(division, place)
    return tables.holds_val(division) if division.kind == "table" else parquet.holds_val(division)


def map_labels(division: Division) -> MapLabels | None:
    """What the values of its label maps mean; None for images without maps."""
    settings = division.settings
    return MapLabels(len(division.listed_classes or []), void_of(settings)) if settings.has_maps else None


def class_names_of(division: Division) -> list[str] | None:
    """The names of all classes, where the source or its settings list them."""
    return division.listed_classes or (None if division.renamed else division.class_names)


def _of_pairs(found: Division, source: Folder, settings: SourceSettings) -> Division:
    """With the classes of the label maps; ValueError where images cannot have any, or other keys say which."""
    is_named = found.kind in ("folders", "flat")
    if is_named and settings.mask_column:
        raise ValueError(
            f"source.mask_column {settings.mask_column!r} with image files, {source.uri}; expected it with tables, "
            "Parquet or tars; set source.masks to the folder of the label maps"
        )
    if is_named and settings.masks is None:
        raise ValueError(
            "source.void or source.num_classes without source.masks; expected them with label maps alone; set "
            "source.masks, or leave them out"
        )
    if not is_named and settings.masks is not None:
        raise ValueError(
            f"source.masks {settings.masks!r} with a source of kind {found.kind!r}, {source.uri}; expected a folder of "
            "image files with label maps beside them; set source.mask_column to the column or extension of the maps"
        )
    if is_named and any(piece.files for piece in found.pieces):
        raise ValueError(
            f"source.masks with one image, {source.uri}; expected a folder of image files with label maps beside them; "
            "point at such a folder"
        )
    names, _ = class_names_of_maps(settings, source)
    return replace(found, listed_classes=names)


def _matching(found: Iterator[Seen], settings: SourceSettings, tally: Tally) -> Iterator[Seen]:
    for image in found:
        if image.of_key == COUNTED or settings.takes(image.key):  # a key that is not whole is looked at by `gather`
            yield image
        else:
            tally.left_out[EXCLUDED] += 1


def _named(division: Division, found: Iterator[Any]) -> Iterator[Any]:
    return found if division.renamed is None else _renamed(division, division.renamed, found)


def _renamed(division: Division, names: dict[str, str], found: Iterator[Any]) -> Iterator[Any]:
    numbered = division.class_names
    for image in found:
        label = image.label
        if isinstance(label, int) and numbered is not None and str(label) not in names:
            label = numbered[label] if 0 <= label < len(numbered) else label
        yield image._replace(label=renamed(label, names, division.settings.class_names or ""))


def _file_of(source: Folder, settings: SourceSettings) -> tuple[Folder, str]:
    """(its folder, its name) when the source is an image, table, Parquet file or tar; else (source, '')."""
    uri, name = split_uri(source.uri)
    suffixes = {".csv", ".parquet", ".tar", *settings.image_suffixes} - {""}
    is_file = suffix_of(name) in suffixes or COMPRESSED.search(name)
    if is_file and source.at(uri).exists(name):
        return source.at(uri), name
    return source, ""


def _in_folder(source: Folder, settings: SourceSettings, kept: Folder | None, *, is_sample: bool) -> Division:
    if settings.kind == "table":
        raise ValueError(f"table {source.uri} is a folder; expected a .csv or .parquet file; give the file itself")
    tally, inventory = Tally(), None if settings.inventory is None else sorted_inventory(source, settings.inventory)
    known = None if inventory is None else inventory_entries(inventory.slices())
    listing = visible(source, tally.left_out, settings.inventory, ONE_STREAM, known)  # the beginning is enough
    begun = Beginning(listing, settings.image_suffixes, tally.left_out, settings.pairing)
    layout, weighed = "folders" if settings.kind == "flat" else settings.kind, tuple[str, ...]()
    if settings.kind == "auto":
        layout, weighed = found_layout(source, begun, partial(_has_images, source, settings))
    kind = settings.kind if settings.kind == "flat" else layout
    found = Division(kind, source, settings, (), chosen=layout, weighed=weighed)
    if layout == "folders":
        if inventory is not None:
            names = [None] if kept is None else keep_slices(inventory, kept)
            return replace(found, pieces=tuple(Piece(kept=name) for name in names), kept=kept)
        begun.read(LOOK if is_sample else HEAD_FILES)
        return _in_stretches(found, begun, tally, is_sample=is_sample)
    entries: Iterator[Entry] = itertools.chain(begun.entries, listing)
    entries = itertools.islice(entries, LOOK_FILES) if is_sample else entries
    return _of_files(found, of_layout(layout, weighed, entries, begun.suffixes, tally), tally)


def _has_images(source: Folder, settings: SourceSettings, name: str) -> bool:
    try:
        return parquet.has_image_column(source, name, settings.image_column)
    except DamagedParquetError:  # beside files that hold images
        return False


def _in_stretches(found: Division, begun: Beginning, tally: Tally, *, is_sample: bool) -> Division:
    """The pieces of a folder of images: what was listed already, and the stretches behind it."""
    head = Head(begun.entries, tally)
    if begun.is_whole:
        return replace(found, pieces=(Piece(("", None)),), head=head)
    cuts = found.folder.cuts(begun.last, 0 if is_sample else MOST_STRETCHES, len(begun.entries))
    if cuts is None:
        return replace(found, pieces=(Piece(("", None)),))
    ends = ["", begun.last, *cuts]
    return replace(found, pieces=tuple(Piece(pair) for pair in zip(ends, [*ends[1:], None], strict=True)), head=head)


def _of_files(found: Division, entries: Iterable[Entry], tally: Tally) -> Division:
    """The pieces of tars or of Parquet files of images: some of them each, where there are very many."""
    reads = parquet if found.kind == "parquet" else webdataset
    files = reads.files_in(found.folder, entries, found.settings, tally.left_out)
    return _grouped(replace(found, tally=tally), files)


def _grouped(found: Division, files: list[File]) -> Division:
    each = max(1, -(-len(files) // MOST_GROUPS))
    pieces = tuple(Piece(files=tuple(files[i : i + each])) for i in range(0, len(files), each))
    shown = parquet.shown_by_first(found.folder, files, found.settings) if found.kind == "parquet" else {}
    return replace(found, pieces=pieces, **shown)


def _in_file(folder: Folder, name: str, settings: SourceSettings, *, is_sample: bool) -> Division:
    """The pieces of one .csv, .parquet or .tar file, or one image."""
    check_uncompressed(folder, name)
    suffix, kind = suffix_of(name), settings.kind
    version = folder.version(name) or ""
    file = [File(name, version, None)]
    if suffix == ".tar" and kind in ("auto", "webdataset"):
        return _grouped(Division("webdataset", folder, settings, ()), file)
    if suffix in settings.image_suffixes and kind in ("auto", "folders", "flat"):
        return Division("flat", folder, settings, (Piece(files=tuple(file)),), chosen="folders")
    if kind == "auto":
        kind = "table"
        if suffix == ".parquet":
            found = parquet_schema(folder, name).names
            kind = "parquet" if settings.image_column in found or settings.uri_column not in found else "table"
    if kind == "parquet" and suffix == ".parquet":
        return _grouped(Division("parquet", folder, settings, ()), file)
    if kind != "table" or suffix not in (".csv", ".parquet"):
        fits = {".tar": "webdataset", ".csv": "table", ".parquet": "table or parquet"}.get(suffix, "folders")
        raise ValueError(f"kind {kind!r} for {folder.uri_of(name)}; expected {fits}; correct it or give a folder")
    columns, pieces = tables.pieces_of(folder, file[0], settings, is_sample=is_sample)
    serves = settings.find_splits and "split" in columns
    return Division("table", folder, settings, pieces, name=name, columns=columns, serves=serves)
