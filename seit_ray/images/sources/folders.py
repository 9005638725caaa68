"""Image files in folders: the first folder below the root, or below that of a split, is the class."""

from __future__ import annotations

from collections.abc import Iterator

from seit_ray.images.records import ImageRecord, splits_of
from seit_ray.images.sources.names import IMAGE_SUFFIXES, suffix_of
from seit_ray.storage import Folder


def image_files(source: Folder, *, labelled: bool) -> Iterator[ImageRecord]:
    """Image files in key order; other files are left out."""
    splits = splits_of(source.list_folders())
    for entry in source.list():
        if suffix_of(entry.name) in IMAGE_SUFFIXES:
            folders = entry.name.split("/")[:-1]
            split = splits.get(folders[0]) if folders else None
            classes = folders[1:] if split else folders
            label = classes[0] if labelled and classes else None
            yield ImageRecord(entry.name, source.uri_of(entry.name), label, split, entry.size_bytes, entry.version)


def has_class_folders(source: Folder) -> bool:
    names = source.list_folders()
    splits = splits_of(names)
    return any(source.join(name).list_folders() for name in splits) if splits else bool(names)
