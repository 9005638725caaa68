"""Listed images as one array of pixels: samples to fit on, pictures to look at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from seit_ray.images.decode import ImageError
from seit_ray.images.decoded import Decoding, one_ahead
from seit_ray.images.fetch import MAX_BYTES
from seit_ray.images.manifest import white_level_of
from seit_ray.images.pairs import Pair
from seit_ray.images.reading import read_chunks
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

NAMED = 3  # unreadable images that an error names


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
    """uint8 [N,3,H,W] of the rows (key, uri, version, size_bytes) of a manifest that can be read, and those rows.

    A storage that does not answer is waited for as by a job (`read_chunks`), and what stays away while others come
    cannot be read. NoReadableImageError, which names the first and why, when there are none.
    """
    white_level, decoding = white_level_of(listed), Decoding(image_size, resize, image_column, max_bytes=MAX_BYTES)

    def decoded(data: bytes | Pair | Exception) -> np.ndarray | ImageError:
        try:
            if isinstance(data, Exception):
                raise data
            assert isinstance(data, bytes)  # no label maps are asked for
            return decoding.decode(data, white_level).pixels
        except ImageError as error:
            return error

    pixels: list[np.ndarray] = []
    good: list[bool] = []
    reasons: list[str] = []
    with ThreadPoolExecutor(num_threads) as pool:
        for rows, contents in one_ahead(read_chunks(listed, source, decoding)):
            for key, image in zip(rows["key"].to_pylist(), pool.map(decoded, contents), strict=True):
                good.append(not isinstance(image, ImageError))
                if isinstance(image, ImageError):
                    reasons = [*reasons, f"{key}: {image}"][:NAMED]
                else:
                    pixels.append(image)
            on_progress(phase, len(good), len(listed), "images")
    if not pixels:
        raise NoReadableImageError(
            f"none of {len(listed)} images in {source.uri} can be read ({'; '.join(reasons)}); expected images; check "
            "the source"
        )
    return np.stack(pixels), listed.filter(pa.array(good))
