"""Finds the images and labels of a source, whatever its layout, as a stream."""

from __future__ import annotations

from collections import Counter

from seit_ray.images.records import FoundImages
from seit_ray.images.sources import folders, parquet, tables, webdataset
from seit_ray.images.sources.names import IMAGE_SUFFIXES, suffix_of
from seit_ray.images.sources.settings import Columns, SourceSettings
from seit_ray.storage import Folder, split_uri

DEFAULT = SourceSettings()
KINDS = ("auto", "folders", "flat", "table", "parquet", "webdataset")


def find_images(source: Folder, settings: SourceSettings = DEFAULT) -> FoundImages:
    """The images of a folder, or of one .csv, .parquet or .tar file, in the order of their keys or rows.

    folders: the first folder below the root, or below a split's folder, is the label. flat: no labels. table:
    a CSV or Parquet file with a row an image: uri (relative ones start at the table's folder), label, split.
    parquet: image bytes in Parquet. webdataset: tars of <key>.jpg and <key>.cls or .json, whose columns are extensions
    and fields of .json. auto: what is there. Folders, Parquet files or tars named after splits give the split; a
    test set without a val set serves as val. ValueError for what does not fit; nothing found is an error for auto only.
    """
    kind, columns = settings.kind, settings.columns
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}; expected one of {list(KINDS)}; correct it")
    folder, name = _file_of(source)
    if name:
        return _in_file(folder, name, kind, columns)
    if kind == "auto":
        kind = _kind_of(source)
    if kind == "table":
        raise ValueError(f"table {source.uri} is a folder; expected a .csv or .parquet file; give the file itself")
    if kind == "parquet":
        return parquet.found_in_folder(source, columns)
    if kind == "webdataset":
        return webdataset.found_in_folder(source, columns)
    return FoundImages(kind, None, folders.image_files(source, labelled=kind == "folders"))


def _file_of(source: Folder) -> tuple[Folder, str]:
    """(its folder, its name) when the source is a table, Parquet file or tar; else (source, '')."""
    uri, name = split_uri(source.uri)
    is_file = suffix_of(name) in (".csv", ".parquet", ".tar") or webdataset.COMPRESSED.search(name)
    if is_file and source.at(uri).exists(name):
        return source.at(uri), name
    return source, ""


def _in_file(folder: Folder, name: str, kind: str, columns: Columns) -> FoundImages:
    """The images of one .csv, .parquet or .tar file."""
    webdataset.check_uncompressed(folder, name)
    suffix = suffix_of(name)
    if suffix == ".tar" and kind in ("auto", "webdataset"):
        return webdataset.found_in_files(folder, {name: None}, columns)
    if kind == "auto":
        kind = "table"
        if suffix == ".parquet":
            found = parquet.parquet_schema(folder, name).names
            kind = "parquet" if columns.image in found or columns.uri not in found else "table"
    if kind == "parquet" and suffix == ".parquet":
        return parquet.found_in_files(folder, {name: None}, columns)
    if kind != "table" or suffix == ".tar":
        fits = "webdataset" if suffix == ".tar" else "table or parquet"
        raise ValueError(f"kind {kind!r} for {folder.uri_of(name)}; expected {fits}; correct it or give a folder")
    read = tables.csv_records if suffix == ".csv" else tables.parquet_table_records
    return FoundImages("table", None, read(folder, name, columns))


def _kind_of(source: Folder) -> str:
    """What a folder holds: images win over Parquet files, those over tars; ValueError when there are none."""
    suffixes: Counter[str] = Counter()
    has_tars = False
    for entry in source.list():
        suffix = suffix_of(entry.name)
        if suffix in IMAGE_SUFFIXES:
            return "folders" if folders.has_class_folders(source) else "flat"
        suffixes[suffix or "no suffix"] += 1
        has_tars |= suffix == ".tar" or webdataset.COMPRESSED.search(entry.name) is not None
    if suffixes[".parquet"]:
        return "parquet"
    if has_tars:
        return "webdataset"
    source.check_readable()
    seen = ", ".join(f"{count} of {suffix}" for suffix, count in suffixes.most_common(5)) or "no files"
    raise ValueError(
        f"source {source.uri} with {seen}; expected images ({' '.join(sorted(IMAGE_SUFFIXES))}), Parquet "
        "files with images, tars of them, or the uri of a .csv or .parquet table itself; correct the uri"
    )
