"""How large listed images are, from a few of them."""

from __future__ import annotations

import statistics

from seit_ray.images.decode import ImageError, decode_image
from seit_ray.images.fetch import fetch_images
from seit_ray.images.manifest import Manifest
from seit_ray.storage import Folder

LOOKED_AT = 32  # images: they are decoded one after the other, before anything else is done


def typical_side(manifest: Manifest, source: Folder, *, image_column: str = "image", seed: int = 0) -> int | None:
    """The median of the shorter sides, in pixels, of a seeded sample; None where none of it can be read.

    Of the first split that has images, train where there is one.
    """
    splits = [name for name in manifest.splits if manifest.splits[name].num_images]
    if not splits:
        return None
    listed = manifest.sample("train" if "train" in splits else splits[0], LOOKED_AT, seed)
    pairs = list(zip(listed["key"].to_pylist(), listed["uri"].to_pylist(), strict=True))
    sides = []
    for data in fetch_images(pairs, source, image_column=image_column):
        if isinstance(data, Exception):
            continue
        try:
            image = decode_image(data, image_size=1, resize="squash")
        except ImageError:
            continue
        sides.append(min(image.width, image.height))
    return int(statistics.median_low(sides)) if sides else None
