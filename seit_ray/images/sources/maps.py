"""Which label map belongs to which image: a file of the same name in a folder beside that of the images.

ADE-20k: images/training/x.jpg and annotations/training/x.png (`masks='annotations'`); CamVid: train/images/x.jpg and
train/masks/x.png (`masks='masks'`); 'photos:labels' where the images' folder is not called images.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from seit_ray.images.fetch import fetch_images
from seit_ray.images.formats import ImageError
from seit_ray.images.known import hashes_of
from seit_ray.images.label_maps import MapLabels, read_map, seen_size
from seit_ray.images.records import ImageRecord, unusable, unusable_reason
from seit_ray.images.sources.class_names import read_class_names
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Entry, Folder

IMAGES = "images"  # the folder whose place the maps' folder takes
ADE = "annotations"  # ADE-20k's: 0 is "other"
WITHOUT = "label maps without an image"
LOOK = 32  # pairs that are looked at before any work
MAX_BYTES = 64 << 20


class LabelMaps:
    """The maps of a source, from a listing of it: `of` each image in turn, then `count_left_over`.

    Takes some 100 bytes of memory a map. ValueError for a source without any.
    """

    def __init__(self, source: Folder, masks: str, entries: Iterator[Entry]):
        self.source = source
        before, colon, after = masks.partition(":")
        self.images, self.folder = (before, after) if colon else (IMAGES, masks)
        if not self.images or not self.folder or "/" in masks:
            raise ValueError(
                f"source.masks {masks!r}; expected the name of the maps' folder, or IMAGES:MAPS, names of both; "
                "correct it"
            )
        names, versions = [], []
        for entry in entries:
            if self.is_map(entry.name):
                names.append(entry.name)
                versions.append(entry.version or None)
        if not names:
            raise ValueError(
                f"source.masks {masks!r} of {source.uri}, where no file lies in a folder of that name; expected label "
                f"maps, as in {self.images}/x.jpg and {self.folder}/x.png; correct it"
            )
        hashes = hashes_of(names)
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.seen = hashes[order], np.zeros(len(order), bool)
        self.versions = [versions[place] for place in order.tolist()]

    def is_map(self, name: str) -> bool:
        """Whether a file lies in a folder of maps."""
        return self.folder in name.split("/")[:-1]

    def name_of(self, name: str) -> str | None:
        """The map that an image has; None for one that lies in no folder of images."""
        folders = name.split("/")[:-1]
        if self.images not in folders:
            return None
        place = len(folders) - 1 - folders[::-1].index(self.images)
        stem = posixpath.splitext(posixpath.basename(name))[0]
        return "/".join([*folders[:place], self.folder, *folders[place + 1 :], f"{stem}.png"])

    def of(self, name: str) -> tuple[str, str | None]:
        """(uri, version) of an image's map; the uri of one that is not there is a reason."""
        wanted = self.name_of(name)
        if wanted is None:
            return unusable(f"no label map: it lies in no folder {self.images!r}"), None
        (number,) = hashes_of([wanted])
        place = int(np.searchsorted(self.hashes, number))
        if place == len(self.hashes) or self.hashes[place] != number:
            return unusable(f"no label map: there is no {wanted}"), None
        self.seen[place] = True
        return self.source.uri_of(wanted), self.versions[place]

    def count_left_over(self, left_out: Counter[str]) -> None:
        """Count the maps that no image has had."""
        if number := int((~self.seen).sum()):
            left_out[WITHOUT] += number


def class_names_of_maps(settings: SourceSettings, source: Folder) -> tuple[list[str], MapLabels]:
    """(names, meaning of the values) of a source's maps; ValueError unless the classes are known."""
    names = None
    if settings.class_names:
        found = read_class_names(settings.class_names, source)
        if isinstance(found, dict):
            raise ValueError(
                f"class names {settings.class_names} are a mapping; expected a list, in the order of the values of the "
                "label maps and without void; write a name a line"
            )
        names = found
    if names is None and settings.num_classes is None:
        raise ValueError(
            "source.masks without classes; expected how many the label maps have, without void; set source.class_names "
            "to a file with a name a line, or source.num_classes"
        )
    if names is not None and settings.num_classes not in (None, len(names)):
        raise ValueError(
            f"source.num_classes {settings.num_classes} with {len(names)} names in {settings.class_names}; expected "
            "one of them, or equal numbers; correct it"
        )
    names = names if names is not None else [str(number) for number in range(settings.num_classes or 0)]
    return names, MapLabels(len(names), void_of(settings))


def void_of(settings: SourceSettings) -> int:
    """The value that is no class: as set, else 0 for the layout of ADE-20k and 255 for others."""
    if settings.void is not None:
        return settings.void
    return 0 if (settings.masks or "").rpartition(":")[2] == ADE else 255


def check_resize(settings: SourceSettings, resize: str) -> None:
    """ValueError where images with label maps would lose their border, of which a map tells too."""
    if settings.masks is not None and resize != "squash":
        raise ValueError(
            f"resize {resize!r} of images with label maps; expected 'squash', which keeps all of an image that its map "
            "tells of; fit a tokenizer with resize=squash"
        )


def checked_pairs(records: Iterator[ImageRecord], source: Folder, labels: MapLabels) -> Iterator[ImageRecord]:
    """The records, the first LOOK of which are looked at with their maps (`check_maps`), as soon as they are there."""
    pairs: list[ImageRecord] = []
    for record in records:
        if len(pairs) < LOOK and record.mask and not unusable_reason(record.mask):
            pairs.append(record)
            if len(pairs) == LOOK:
                check_maps(pairs, source, labels)
        yield record
    if len(pairs) < LOOK:
        check_maps(pairs, source, labels)


def check_maps(records: Sequence[ImageRecord], source: Folder, labels: MapLabels) -> None:
    """ValueError for the first of some images whose map has another size, or labels outside the classes.

    What cannot be read, or is not there, is told later, as a reject.
    """
    images = fetch_images([(r.key, r.uri) for r in records], source, max_bytes=MAX_BYTES)
    maps = fetch_images([(r.key, r.mask or "") for r in records], source, max_bytes=MAX_BYTES)
    for record, image, data in zip(records, images, maps, strict=True):
        if isinstance(image, Exception) or isinstance(data, Exception):
            continue
        try:
            size = seen_size(image)
        except Exception:  # the readers raise whatever a damaged file leads them to
            continue
        try:
            read_map(data, labels, size)
        except ImageError as error:
            raise ValueError(f"{record.key}: {error}") from error
