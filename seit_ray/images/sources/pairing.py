"""Which label map belongs to which image, by their names: of the same name in a folder beside that of the images.

ADE-20k: images/training/x.jpg and annotations/training/x.png (`masks='annotations'`); CamVid: train/images/x.jpg and
train/masks/x.png (`masks='masks'`); 'photos:labels' where the images' folder is not called images.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

IMAGES = "images"  # the folder whose place the maps' folder takes
WITHOUT, AGAIN = "label maps without an image", "label maps whose name comes again"  # as they are counted


class Pairing(NamedTuple):
    """The names of the folders of images and of their maps."""

    images: str
    maps: str

    @classmethod
    def of(cls, masks: str) -> Pairing:
        """What source.masks says; ValueError for what names no folders."""
        before, colon, after = masks.partition(":")
        found = cls(before, after) if colon else cls(IMAGES, masks)
        if not all(found) or "/" in masks or found.images == found.maps:
            raise ValueError(
                f"source.masks {masks!r}; expected the name of the maps' folder, or IMAGES:MAPS, two names; correct it"
            )
        return found

    def is_map(self, name: str) -> bool:
        """Whether a file lies in a folder of maps."""
        return self.maps in name.split("/")[:-1]

    def map_of(self, name: str) -> str | None:
        """The name of the map that an image has; None for one that lies in no folder of images."""
        folders = name.split("/")[:-1]
        if self.images not in folders:
            return None
        place = len(folders) - 1 - folders[::-1].index(self.images)
        stem = posixpath.splitext(posixpath.basename(name))[0]
        return "/".join([*folders[:place], self.maps, *folders[place + 1 :], f"{stem}.png"])
