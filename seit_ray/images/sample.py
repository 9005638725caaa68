"""Listed images as one array of pixels: samples to fit on, pictures to look at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from seit_ray.images.decode import ImageError, decode_image
from seit_ray.images.fetch import fetch_images
from seit_ray.images.manifest import white_level_of
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

NAMED = 3  # unreadable images that an error names
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
    """uint8 [N,3,H,W] of the rows (key, uri, version) of a manifest that can be read, and those rows.

    NoReadableImageError, which names the first and why, when there are none.
    """
    white_level = white_level_of(listed)

    def decoded(data: bytes | Exception) -> np.ndarray | ImageError:
        try:
            if isinstance(data, Exception):
                raise data
            return decode_image(data, image_size=image_size, resize=resize, white_level=white_level).pixels
        except ImageError as error:
            return error

    pixels: list[np.ndarray] = []
    good: list[bool] = []
    reasons: list[str] = []
    with ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, len(listed), CHUNK):
            rows = listed.slice(start, CHUNK)
            pairs = list(zip(rows["key"].to_pylist(), rows["uri"].to_pylist(), strict=True))
            versions = rows["version"].to_pylist() if "version" in rows.column_names else None
            contents = fetch_images(pairs, source, versions=versions, image_column=image_column)
            for (key, _), image in zip(pairs, pool.map(decoded, contents), strict=True):
                good.append(not isinstance(image, ImageError))
                if isinstance(image, ImageError):
                    reasons = [*reasons, f"{key}: {image}"][:NAMED]
                else:
                    pixels.append(image)
            on_progress(phase, min(start + CHUNK, len(listed)), len(listed), "images")
    if not pixels:
        raise NoReadableImageError(
            f"none of {len(listed)} images in {source.uri} can be read ({'; '.join(reasons)}); expected images; check "
            "the source"
        )
    return np.stack(pixels), listed.filter(pa.array(good))
