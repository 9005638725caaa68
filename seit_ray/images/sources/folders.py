"""Image files in folders: the first folder below the root, or beside that of a split, is the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from seit_ray.images.records import ImageRecord
from seit_ray.images.sources.keys import FileKeys
from seit_ray.images.sources.layout import layout_of_file
from seit_ray.images.sources.maps import LabelMaps
from seit_ray.images.sources.names import is_hidden
from seit_ray.images.sources.settings import EXCLUDED, SourceSettings
from seit_ray.images.sources.splits import FolderSplits
from seit_ray.storage import Entry, Folder


def image_records(
    source: Folder,
    entries: Iterator[Entry],
    settings: SourceSettings,
    left_out: Counter[str],
    maps: LabelMaps | None = None,
) -> Iterator[ImageRecord]:
    """A record for each image file, in their order; with its label map in place of a label, where there are `maps`."""
    suffixes, labelled = settings.image_suffixes, settings.kind != "flat" and maps is None

    def has_images(prefix: str) -> bool:
        names = (entry.name for entry in source.list(prefix, include_hidden=True))
        return any(
            layout_of_file(name, suffixes) == "folders" and not is_hidden(name) and settings.takes(name)
            for name in names
        )

    keys, splits = FileKeys(), FolderSplits(source.uri, has_images, find_splits=settings.find_splits)
    for entry in entries:
        if maps is not None and maps.is_map(entry.name):
            continue
        key, repeats = keys.of(entry.name)
        if not settings.takes(repeats or key):
            left_out[EXCLUDED] += 1
            continue
        split, label = splits.split((repeats or key).split("/")[:-1], key)
        uri = source.uri_of(entry.name)
        mask, mask_version = maps.of(entry.name) if maps is not None else (None, None)
        label, version = label if labelled else None, entry.version or None
        yield ImageRecord(key, uri, label, split, entry.size_bytes, version, repeats, mask, mask_version)
    if maps is not None:
        maps.count_left_over(left_out)
