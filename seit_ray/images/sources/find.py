"""Finds the images and labels of a source, whatever its layout, as a stream."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator

from seit_ray.images.records import FoundImages, ImageRecord, splits_of
from seit_ray.images.sources import tables, webdataset
from seit_ray.images.sources.settings import Columns, SourceSettings
from seit_ray.storage import Folder, split_uri

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
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
        return _in_parquet_folder(source, columns)
    if kind == "webdataset":
        return _in_tar_folder(source, columns)
    return FoundImages(kind, None, _image_files(source, labelled=kind == "folders"))


def _file_of(source: Folder) -> tuple[Folder, str]:
    """(its folder, its name) when the source is a table, Parquet file or tar; else (source, '')."""
    uri, name = split_uri(source.uri)
    is_file = _suffix(name) in (".csv", ".parquet", ".tar") or webdataset.COMPRESSED.search(name)
    if is_file and source.at(uri).exists(name):
        return source.at(uri), name
    return source, ""


def _in_file(folder: Folder, name: str, kind: str, columns: Columns) -> FoundImages:
    """The images of one .csv, .parquet or .tar file."""
    webdataset.check_uncompressed(folder, name)
    suffix = _suffix(name)
    if suffix == ".tar" and kind in ("auto", "webdataset"):
        return _in_tars(folder, {name: None}, columns)
    if kind == "auto":
        kind = "table"
        if suffix == ".parquet":
            found = tables.parquet_schema(folder, name).names
            kind = "parquet" if columns.image in found or columns.uri not in found else "table"
    if kind == "parquet" and suffix == ".parquet":
        return _in_parquet(folder, {name: None}, columns)
    if kind != "table" or suffix == ".tar":
        fits = "webdataset" if suffix == ".tar" else "table or parquet"
        raise ValueError(f"kind {kind!r} for {folder.uri_of(name)}; expected {fits}; correct it or give a folder")
    read = tables.csv_records if suffix == ".csv" else tables.parquet_table_records
    return FoundImages("table", None, read(folder, name, columns))


def _in_parquet_folder(source: Folder, columns: Columns) -> FoundImages:
    """The images of all Parquet files of a folder, with the split of each file."""
    names = [entry.name for entry in source.list() if _suffix(entry.name) == ".parquet"]
    by_folder = splits_of(source.list_folders())
    by_name = splits_of({_stem(name) for name in names})
    splits = {name: by_folder.get(name.partition("/")[0]) or by_name.get(_stem(name)) for name in names}
    return _in_parquet(source, splits, columns)


def _in_parquet(folder: Folder, splits: dict[str, str | None], columns: Columns) -> FoundImages:
    """splits: file name -> split, in the order to read them."""
    class_names = None
    for name in splits:
        schema = tables.parquet_schema(folder, name)
        tables.present_columns(schema.names, folder.uri_of(name), columns, "image")
        class_names = tables.class_label_names(schema, columns.label)
        break  # one file shows, before the work starts, whether the columns are right

    def records() -> Iterator[ImageRecord]:
        for name, split in splits.items():
            yield from tables.parquet_records(folder, name, columns, split, class_names)

    return FoundImages("parquet", class_names, records())


def _in_tar_folder(source: Folder, columns: Columns) -> FoundImages:
    """The images of all tars of a folder, with the split of each."""
    names = []
    for entry in source.list():
        webdataset.check_uncompressed(source, entry.name)
        if _suffix(entry.name) == ".tar":
            names.append(entry.name)
    return _in_tars(source, webdataset.tar_splits(source.list_folders(), names), columns)


def _in_tars(folder: Folder, splits: dict[str, str | None], columns: Columns) -> FoundImages:
    """splits: file name -> split, in the order to read them."""

    def records() -> Iterator[ImageRecord]:
        for name, split in splits.items():
            yield from webdataset.tar_records(folder, name, columns, split, IMAGE_SUFFIXES)

    return FoundImages("webdataset", None, records())


def _image_files(source: Folder, *, labelled: bool) -> Iterator[ImageRecord]:
    """Image files in key order; other files are left out."""
    splits = splits_of(source.list_folders())
    for entry in source.list():
        if _suffix(entry.name) in IMAGE_SUFFIXES:
            folders = entry.name.split("/")[:-1]
            split = splits.get(folders[0]) if folders else None
            classes = folders[1:] if split else folders
            label = classes[0] if labelled and classes else None
            yield ImageRecord(entry.name, source.uri_of(entry.name), label, split, entry.size_bytes, entry.version)


def _kind_of(source: Folder) -> str:
    """What a folder holds: images win over Parquet files, those over tars; ValueError when there are none."""
    suffixes: Counter[str] = Counter()
    has_tars = False
    for entry in source.list():
        suffix = _suffix(entry.name)
        if suffix in IMAGE_SUFFIXES:
            return "folders" if _has_class_folders(source) else "flat"
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


def _has_class_folders(source: Folder) -> bool:
    names = source.list_folders()
    splits = splits_of(names)
    return any(source.join(name).list_folders() for name in splits) if splits else bool(names)


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _stem(name: str) -> str:
    """'train' of 'data/train-00000-of-00012.parquet'."""
    return posixpath.splitext(posixpath.basename(name))[0].partition("-")[0]
