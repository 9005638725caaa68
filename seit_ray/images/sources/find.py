"""Finds the images and labels of a source, whatever its layout, as a stream."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator

from seit_ray.images.records import FoundImages, ImageRecord
from seit_ray.images.sources import folders, parquet, tables, webdataset
from seit_ray.images.sources.class_names import read_class_names, renamed
from seit_ray.images.sources.layout import files_of, found_layout, visible
from seit_ray.images.sources.maps import LabelMaps, class_names_of_maps
from seit_ray.images.sources.names import suffix_of
from seit_ray.images.sources.settings import EXCLUDED, SourceSettings
from seit_ray.images.sources.tars import COMPRESSED, check_uncompressed
from seit_ray.storage import Entry, Folder, split_uri

DEFAULT = SourceSettings()
KINDS = ("auto", "folders", "flat", "table", "parquet", "webdataset")


def find_images(source: Folder, settings: SourceSettings = DEFAULT) -> FoundImages:
    """The images of a folder, or of one image, .csv, .parquet or .tar file, in the order of their names or rows.

    folders: the first folder below the root, or beside a split's folder, is the label. flat: no labels. table:
    a CSV or Parquet file with a row an image: uri (relative ones start at the table's folder), label, split.
    parquet: image bytes in Parquet. webdataset: tars of <key>.jpg and <key>.cls or .json, whose columns are extensions
    and fields of .json. auto: what is there, if that is clear. Splits are found by the names of folders and files (see
    `splits`), or by a column. With settings.masks, image files have label maps in place of
    labels. ValueError for what does not fit; nothing found is an error for auto only.
    """
    if settings.kind not in KINDS:
        raise ValueError(f"kind {settings.kind!r}; expected one of {list(KINDS)}; correct it")
    folder, name = _file_of(source, settings) if settings.inventory is None else (source, "")
    found = _in_file(folder, name, settings) if name else _in_folder(source, settings)
    if settings.masks is not None and (name or found.kind not in ("folders", "flat")):
        raise ValueError(
            f"source.masks with a source of kind {found.kind!r}, {source.uri}; expected a folder of image files with "
            "label maps beside them; leave it out, or point at such a folder"
        )
    return _narrowed(found, source, settings)


def _file_of(source: Folder, settings: SourceSettings) -> tuple[Folder, str]:
    """(its folder, its name) when the source is an image, table, Parquet file or tar; else (source, '')."""
    uri, name = split_uri(source.uri)
    suffixes = {".csv", ".parquet", ".tar", *settings.image_suffixes} - {""}
    is_file = suffix_of(name) in suffixes or COMPRESSED.search(name)
    if is_file and source.at(uri).exists(name):
        return source.at(uri), name
    return source, ""


def _in_folder(source: Folder, settings: SourceSettings) -> FoundImages:
    left_out: Counter[str] = Counter()
    suffixes, kind = settings.image_suffixes, settings.kind
    if kind == "table":
        raise ValueError(f"table {source.uri} is a folder; expected a .csv or .parquet file; give the file itself")
    entries = visible(source, left_out, settings.inventory)
    if kind == "auto":

        def has_images(parquet_name: str) -> bool:
            try:
                return parquet.has_image_column(source, parquet_name, settings.image_column)
            except parquet.DamagedParquetError:  # beside files that hold images
                return False

        kind, entries = found_layout(source, entries, suffixes, left_out, has_images)
    else:
        layout = "folders" if kind == "flat" else kind
        entries = files_of(layout, entries, suffixes, left_out)
    if kind == "parquet":
        return parquet.found_in_folder(source, entries, settings, left_out)
    if kind == "webdataset":
        return webdataset.found_in_folder(source, entries, settings, left_out)
    maps = None
    if settings.masks is not None:
        maps = LabelMaps(source, settings.masks, visible(source, Counter(), settings.inventory))
    return FoundImages(kind, None, folders.image_records(source, entries, settings, left_out, maps), left_out)


def _in_file(folder: Folder, name: str, settings: SourceSettings) -> FoundImages:
    """The images of one .csv, .parquet or .tar file, or one image."""
    check_uncompressed(folder, name)
    suffix, kind, left_out = suffix_of(name), settings.kind, Counter[str]()
    versions = {name: folder.version(name) or ""}
    if suffix == ".tar" and kind in ("auto", "webdataset"):
        return webdataset.found_in_files(folder, {name: None}, versions, settings, left_out)
    if suffix in settings.image_suffixes and kind in ("auto", "folders", "flat"):
        entries = iter([Entry(name, folder.size(name) or 0, versions[name])])
        return FoundImages("flat", None, folders.image_records(folder, entries, settings, left_out), left_out)
    if kind == "auto":
        kind = "table"
        if suffix == ".parquet":
            found = parquet.parquet_schema(folder, name).names
            kind = "parquet" if settings.image_column in found or settings.uri_column not in found else "table"
    if kind == "parquet" and suffix == ".parquet":
        return parquet.found_in_files(folder, {name: None}, versions, settings, left_out)
    if kind != "table" or suffix not in (".csv", ".parquet"):
        fits = {".tar": "webdataset", ".csv": "table", ".parquet": "table or parquet"}.get(suffix, "folders")
        raise ValueError(f"kind {kind!r} for {folder.uri_of(name)}; expected {fits}; correct it or give a folder")
    return FoundImages("table", None, tables.table_records(folder, name, settings), left_out)


def _narrowed(found: FoundImages, source: Folder, settings: SourceSettings) -> FoundImages:
    """Those images that the settings take, with the names of classes that they give."""
    records, class_names = found.records, found.class_names
    if settings.include or settings.exclude:
        records = _matching(records, settings, found.left_out)
    labels = None
    if settings.masks is not None:
        class_names, labels = class_names_of_maps(settings, source)
    elif settings.void is not None or settings.num_classes is not None:
        raise ValueError(
            "source.void or source.num_classes without source.masks; expected them with label maps alone; set "
            "source.masks, or leave them out"
        )
    elif settings.class_names:
        names = read_class_names(settings.class_names, source)
        if isinstance(names, dict):
            records = _renamed(records, class_names, names, settings.class_names)
            class_names = None
        else:
            class_names = names
    if settings.limit is not None:
        records = itertools.islice(records, settings.limit)
        found.notes.append(f"only the first {settings.limit} images of the listing (source.limit)")
    return dataclasses.replace(found, records=records, class_names=class_names, labels=labels)


def _matching(
    records: Iterator[ImageRecord], settings: SourceSettings, left_out: Counter[str]
) -> Iterator[ImageRecord]:
    for record in records:
        if settings.takes(record.repeats or record.key):
            yield record
        else:
            left_out[EXCLUDED] += 1


def _renamed(
    records: Iterator[ImageRecord], class_names: list[str] | None, names: dict[str, str], uri: str
) -> Iterator[ImageRecord]:
    for record in records:
        label = record.label
        if isinstance(label, int) and class_names is not None and str(label) not in names:
            label = class_names[label] if 0 <= label < len(class_names) else label
        yield dataclasses.replace(record, label=renamed(label, names, uri))
