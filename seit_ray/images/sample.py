"""Listed images as one array of pixels: samples to fit on, pictures to look at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from seit_ray.images.decode import ImageError, decode_image
from seit_ray.images.fetch import fetch_images
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

CHUNK = 256  # images fetched together; one chunk is decoded while threads share the work


class NoReadableImageError(ValueError):
    """None of the listed images can be read."""


def read_pixels(
    listed: pa.Table,
    source: Folder,
    *,
    image_size: int,
    resize: str,
    image_column: str = "image",
    num_threads: int = 4,
    phase: str = "decode",
    on_progress: Progress = silent,
) -> tuple[np.ndarray, pa.Table]:
    """uint8 [N,3,H,W] of the rows (key, uri) of a manifest that can be read, and those rows.

    NoReadableImageError when there are none.
    """

    def decoded(data: bytes | Exception) -> np.ndarray | None:
        try:
            if isinstance(data, Exception):
                raise data
            return decode_image(data, image_size=image_size, resize=resize).pixels
        except ImageError:
            return None

    pixels, good = [], []
    with ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, len(listed), CHUNK):
            rows = listed.slice(start, CHUNK)
            pairs = list(zip(rows["key"].to_pylist(), rows["uri"].to_pylist(), strict=True))
            found = list(pool.map(decoded, fetch_images(pairs, source, image_column=image_column)))
            good += [image is not None for image in found]
            pixels += [image for image in found if image is not None]
            on_progress(phase, min(start + CHUNK, len(listed)), len(listed), "images")
    if not pixels:
        raise NoReadableImageError(
            f"none of {len(listed)} images in {source.uri} can be read; expected images; check the source"
        )
    return np.stack(pixels), listed.filter(pa.array(good))
