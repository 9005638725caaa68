"""Grey images of 16 bits whose sensor has fewer: they would be nearly black, so a note says it before any work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from seit_ray.images.decode import MAX_PIXELS
from seit_ray.images.fetch import fetch_images
from seit_ray.images.formats import open_image
from seit_ray.images.rows import FoundRows
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError

LOOK = 4  # images, the first ones that may have 16 bits
MAX_BYTES = 16 << 20
FAR_BELOW = 8  # white over the brightest value
_SUFFIXES = r"(?i)\.(png|tiff?|pgm)(#\d+)?$"


def may_be_deep(rows: FoundRows, most: int) -> list[tuple[str, str]]:
    """(key, uri) of the first images of formats that may have 16 bits, in files of their own or in tars."""
    found = pc.indices_nonzero(pc.match_substring_regex(rows.keys, _SUFFIXES)).slice(0, most)
    return list(zip(rows.keys.take(found).to_pylist(), rows.uris.take(found).to_pylist(), strict=True))


def depth_notes(images: Sequence[tuple[str, str]], source: Folder, settings: SourceSettings) -> list[str]:
    """A note where the first images (key, uri) have 16 bits, and are dark; what cannot be read is told by others."""
    if settings.white_level is not None or not images:
        return []
    try:
        contents = fetch_images(list(images), source, image_column=settings.image_column, max_bytes=MAX_BYTES)
    except StorageError:
        return []
    found = [high for data in contents if isinstance(data, bytes) and (high := brightest(data)) is not None]
    highest = max(found, default=0)
    if not highest or highest * FAR_BELOW > 65535:
        return []
    level = (1 << highest.bit_length()) - 1
    return [
        f"{len(found)} of the first images are grey with 16 bits and no brighter than {highest} of 65535: nearly "
        f"black; source.white_level={level} makes that white"
    ]


def brightest(data: bytes) -> int | None:
    """The highest value of a grey image of 16 bits; None for any other."""
    try:
        image = open_image(data)
        if not image.mode.startswith("I") or image.width * image.height > MAX_PIXELS:
            return None
        return int(np.asarray(image).max())
    except Exception:  # the readers raise whatever a damaged file leads them to
        return None
