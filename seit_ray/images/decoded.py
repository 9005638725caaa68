"""Rows of the manifest as pixels, with what cannot be read beside them. N images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from seit_ray.images.decode import MAX_PIXELS, DecodedImage, ImageError, decode_image
from seit_ray.images.fetch import MAX_BYTES
from seit_ray.images.label_maps import MapLabels, map_labels_of, pack_map, read_map
from seit_ray.images.manifest import white_level_of
from seit_ray.images.pairs import Contents, Pair
from seit_ray.images.reading import Chunk, read_chunks
from seit_ray.images.sources.settings import Columns
from seit_ray.progress import Times
from seit_ray.storage import Folder
from seit_ray.storage.patience import PATIENCE_S

T = TypeVar("T")
R = TypeVar("R")
END = object()  # of what is made ahead
MASK = "mask"  # of the rows of pairs: the label map as PNG
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
    patience_s: float = PATIENCE_S  # with a storage that does not answer
    masks: bool = False  # in a source of pairs, with their label maps

    @property
    def pixel_bytes(self) -> int:
        """Of one image."""
        return 3 * self.image_size**2

    def decode(self, data: bytes, white_level: int | None = None, out: np.ndarray | None = None) -> DecodedImage:
        """One image (`decode_image`)."""
        return decode_image(
            data,
            image_size=self.image_size,
            resize=self.resize,
            max_pixels=self.max_pixels,
            mode=self.mode,
            white_level=white_level,
            out=out,
        )


class DecodedImages(NamedTuple):
    """pixels uint8 [N,3,H,W]; rows: manifest columns and FOUND of the N, of pairs MASK too; rejected: and reason."""

    pixels: np.ndarray
    rows: pa.Table
    rejected: pa.Table


def decode_content(
    content: bytes | Pair | Exception,
    decoding: Decoding,
    white_level: int | None,
    labels: MapLabels | None,
    out: np.ndarray,
) -> tuple[DecodedImage, np.ndarray | None]:
    """(image, whose pixels are in out, classes uint8 [H,W] of its label map) of what was read; else its error.

    labels: what the values of label maps mean; without them maps are left alone.
    """
    if isinstance(content, Exception):
        raise content
    if not isinstance(content, Pair):
        return decoding.decode(content, white_level, out), None
    image = decoding.decode(content.image, white_level, out)
    return image, None if labels is None else read_map(content.mask, labels, (image.width, image.height))


def decode_rows(listed: pa.Table, contents: Contents, decoding: Decoding) -> DecodedImages:
    """The images of rows of the manifest and their bytes, in order; a StorageError where the storage is at fault.

    An image of a pair whose label map does not fit is rejected with it.
    """
    size, white_level = decoding.image_size, white_level_of(listed)
    labels = map_labels_of(listed) if decoding.masks else None
    masks: list[bytes] = []
    pixels = np.empty((len(listed), 3, size, size), np.uint8)
    found: dict[str, list[int]] = {name: [] for name in FOUND}
    good: list[int] = []
    reasons: dict[int, str] = {}
    for place, content in enumerate(contents):
        try:
            image, classes = decode_content(content, decoding, white_level, labels, pixels[len(good)])
        except ImageError as error:
            reasons[place] = str(error)
            continue
        if classes is not None:
            masks.append(pack_map(classes))
        good.append(place)
        assert not isinstance(content, Exception)  # which was raised
        encoded = content.image if isinstance(content, Pair) else content
        for name, value in zip(FOUND, (image.width, image.height, len(encoded)), strict=True):
            found[name].append(value)
    rows, rejected = (listed.take(pa.array(places, pa.int64())) for places in (good, list(reasons)))
    for name, kind in FOUND.items():
        rows = rows.append_column(name, pa.array(found[name], kind))
    if labels is not None:
        rows = rows.append_column(MASK, pa.array(masks, pa.binary()))
    return DecodedImages(
        pixels[: len(good)], rows, rejected.append_column("reason", pa.array(list(reasons.values()), pa.string()))
    )


def decoded_chunks(
    listed: pa.Table,
    source: Folder,
    decoding: Decoding,
    *,
    num_threads: int = 0,
    times: Times | None = None,
) -> Generator[DecodedImages]:
    """Rows of the manifest, some at a time, in order; the next are read meanwhile, and decoded in threads if any.

    The first are read from the call on. times: how long this thread waited for the bytes ("fetch").
    """
    return decoded_in_order(one_ahead(read_chunks(listed, source, decoding)), decoding, num_threads, times or Times())


def decoded_in_order(
    chunks: Generator[Chunk], decoding: Decoding, num_threads: int, times: Times
) -> Generator[DecodedImages]:
    """Chunks, decoded; none is kept while the next is waited for."""
    with closing(chunks):
        if num_threads:
            yield from ahead(lambda chunk: decode_rows(*chunk, decoding), chunks, num_threads)
            return
        for rows, contents in chunks:
            times.add("fetch")
            yield decode_rows(rows, contents, decoding)
            del rows, contents


def one_ahead(items: Iterator[T]) -> Generator[T]:
    """The items, the next of which is made in a thread while the caller is busy with one; the first at once."""
    pool = ThreadPoolExecutor(1)
    return in_order_from(items, pool, pool.submit(next, items, END))


def in_order_from(items: Iterator[T], pool: ThreadPoolExecutor, coming: Future[Any]) -> Generator[T]:
    """An item that is being made, and those behind it."""
    try:
        while (item := coming.result()) is not END:
            coming = pool.submit(next, items, END)
            yield item
            del item
    finally:  # who stops does not wait for what is on its way
        pool.shutdown(wait=False, cancel_futures=True)


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
