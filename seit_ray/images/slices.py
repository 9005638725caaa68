"""A slice of the manifest as pixels: fetch and decode, with what cannot be read beside it. N images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from seit_ray.images.decode import MAX_PIXELS, DecodedImage, ImageError, decode_image
from seit_ray.images.fetch import MAX_BYTES, fetch_images
from seit_ray.images.manifest import Manifest, white_level_of
from seit_ray.images.sources.settings import Columns
from seit_ray.storage import Folder

T = TypeVar("T")
R = TypeVar("R")
FOUND = {"width": pa.int32(), "height": pa.int32(), "source_bytes": pa.int64()}


@dataclass(frozen=True)
class Decoding:
    """How images become pixels uint8 [3,image_size,image_size]; larger files and larger images are rejected."""

    image_size: int
    resize: str
    image_column: str = Columns.image
    mode: str = "exact"
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS

    def decode(self, data: bytes, white_level: int | None = None) -> DecodedImage:
        """One image (`decode_image`)."""
        return decode_image(
            data,
            image_size=self.image_size,
            resize=self.resize,
            max_pixels=self.max_pixels,
            mode=self.mode,
            white_level=white_level,
        )


class DecodedSlice(NamedTuple):
    """pixels uint8 [N,3,H,W]; rows: manifest columns and FOUND of the N; rejected: manifest columns and reason."""

    pixels: np.ndarray
    rows: pa.Table
    rejected: pa.Table


def decode_slice(
    manifest: Manifest,
    split: str,
    index: int,
    source: Folder,
    decoding: Decoding,
) -> DecodedSlice:
    """The images of one slice, in manifest order; a StorageError where the storage itself is at fault."""
    listed = manifest.read_slice(split, index)
    pairs = list(zip(listed["key"].to_pylist(), listed["uri"].to_pylist(), strict=True))
    size, white_level = decoding.image_size, white_level_of(listed)
    pixels = np.empty((len(pairs), 3, size, size), np.uint8)
    found: dict[str, list[int]] = {name: [] for name in FOUND}
    good: list[int] = []
    reasons: dict[int, str] = {}
    contents = fetch_images(
        pairs,
        source,
        versions=listed["version"].to_pylist(),
        image_column=decoding.image_column,
        max_bytes=decoding.max_bytes,
    )
    for place, data in enumerate(contents):
        try:
            if isinstance(data, Exception):
                raise data
            image = decoding.decode(data, white_level)
        except ImageError as error:
            reasons[place] = str(error)
            continue
        pixels[len(good)] = image.pixels
        good.append(place)
        for name, value in zip(FOUND, (image.width, image.height, len(data)), strict=True):
            found[name].append(value)
    rows, rejected = (listed.take(pa.array(places, pa.int64())) for places in (good, list(reasons)))
    for name, kind in FOUND.items():
        rows = rows.append_column(name, pa.array(found[name], kind))
    return DecodedSlice(
        pixels[: len(good)], rows, rejected.append_column("reason", pa.array(list(reasons.values()), pa.string()))
    )


def ahead(function: Callable[[T], R], items: Iterable[T], num_threads: int) -> Iterator[R]:
    """function(item) of each item, in order, computed in threads while the caller is busy; few wait at a time."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the caller has stopped: start nothing more
                future.cancel()
