"""Shards of a split's images, decoded by all threads at once, straight into what the processes of a node share.

A shard is decoded in pieces of some images: the first one is whole as soon as all threads together can make it so, and
none of them is left with a whole shard at the end.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from seit_ray.batches.shared import Layout, SharedArrays, shared_arrays
from seit_ray.batches.store import label_layout
from seit_ray.images.decode import ImageError
from seit_ray.images.decoded import Decoding, decode_content
from seit_ray.images.label_maps import map_labels_of, squash_map
from seit_ray.images.manifest import white_level_of
from seit_ray.images.pairs import Contents
from seit_ray.images.reading import read_chunks
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

PIECE_ROWS, PIECE_BYTES = 16, 1 << 20  # that a thread decodes before it looks for others: images, of small ones pixels
MOST_UNREADABLE, FEW_UNREADABLE = 0.01, 3  # of a split, as a share, and images that are always borne

Arrays = dict[str, np.ndarray]
Lost = dict[int, str]  # place of an image that cannot be read -> what is wrong with it


class ImageShards:
    """Arrays "pixels" uint8 [N,3,H,W], "labels" int64 [N] or label maps uint8 [N,H,W], "read" bool [N], of shards.

    read_rows: number of a shard -> rows of the manifest; split, num_images: of all shards. A thread of the caller reads
    the files of a shard; num_threads, those of all shards, decode them.
    """

    def __init__(
        self,
        read_rows: Callable[[int], pa.Table],
        split: str,
        num_images: int,
        source: Folder,
        decoding: Decoding,
        *,
        num_threads: int,
        on_progress: Progress = silent,
    ):
        self.read_rows, self.split, self.num_images = read_rows, split, num_images
        self.source, self.decoding, self.on_progress = source, decoding, on_progress
        self.most = num_images  # that progress is told of
        self.decoded, self.unreadable = 0, dict[int, int]()
        self.num_threads = num_threads
        self._threads = ThreadPoolExecutor(num_threads, "decode")

    def read(self, shard: int) -> SharedArrays:
        """The arrays of a shard, decoded by the first process of the node that asks for them."""
        rows, size = self.read_rows(shard), self.decoding.image_size
        layout: Layout = {
            "pixels": ((len(rows), 3, size, size), np.dtype(np.uint8)),
            "labels": label_layout(len(rows), size if self.decoding.masks else None),
            "read": ((len(rows),), np.dtype(bool)),
        }
        arrays = shared_arrays(key_of(rows, self.decoding), layout, lambda arrays: self.fill(arrays, rows, shard))
        self.decoded += len(rows)
        if self.decoded <= self.most:
            self.on_progress(f"decode {self.split}", self.decoded, self.most, "images")
        return arrays

    def fill(self, arrays: Arrays, rows: pa.Table, shard: int) -> None:
        """Decode the rows; ValueError when too many cannot be read, and when the storage stays away.

        The next one that can be read stands in for an image that cannot, with its own label.
        """
        lost: Lost = {}
        for some in self.decode(arrays, rows):
            lost |= some
        reason = f"{rows['key'][min(lost)]}: {lost[min(lost)]}" if lost else ""
        read = np.setdiff1d(np.arange(len(rows)), list(lost))
        if not len(read):
            raise ValueError(
                f"none of {len(rows)} images around {reason} of {self.source.uri} can be read; expected images; check "
                "the source"
            )
        arrays["read"][:] = [place not in lost for place in range(len(rows))]
        gaps, stand_in = np.array(sorted(lost), np.int64), np.arange(len(rows))
        stand_in[gaps] = read[np.searchsorted(read, gaps) % len(read)]
        arrays["pixels"][gaps] = arrays["pixels"][stand_in[gaps]]
        if self.decoding.masks:
            arrays["labels"][gaps] = arrays["labels"][stand_in[gaps]]
        else:
            arrays["labels"][:] = rows["label"].fill_null(-1).to_numpy()[stand_in]
        if lost:
            self.unreadable[shard] = len(lost)
            self.check_unreadable(reason)

    def decode(self, arrays: Arrays, rows: pa.Table) -> Iterator[Lost]:
        """Fill in pixels, and label maps where they are asked for; of each piece what cannot be read.

        The files of a chunk are read while those of the one before are decoded: two are in memory at a time.
        """
        first, before, waiting = 0, list[Future[Lost]](), list[Future[Lost]]()
        try:
            for chunk, contents in read_chunks(rows, self.source, self.decoding):
                before, waiting = waiting, []
                size = self.piece_rows(len(chunk))
                for start in range(0, len(chunk), size):
                    piece = contents[start : start + size]
                    waiting.append(self._threads.submit(self.decode_piece, arrays, rows, piece, first + start))
                first += len(chunk)
                for done in before:
                    yield done.result()
            for done in waiting:
                yield done.result()
        finally:
            for future in (*before, *waiting):  # after an error: start nothing more
                future.cancel()

    def piece_rows(self, num: int) -> int:
        """Images of a piece of so many: small ones take less time than threads need to hand over to each other."""
        most = PIECE_BYTES // self.decoding.pixel_bytes
        return max(PIECE_ROWS, min(most, math.ceil(num / self.num_threads)))

    def decode_piece(self, arrays: Arrays, rows: pa.Table, contents: Contents, first: int) -> Lost:
        """The images of the rows from `first` on; a StorageError where the storage is at fault."""
        white_level = white_level_of(rows)
        map_labels = map_labels_of(rows) if self.decoding.masks else None
        lost: Lost = {}
        for place, content in enumerate(contents, first):
            out = arrays["pixels"][place]
            try:
                _, classes = decode_content(content, self.decoding, white_level, map_labels, out)
            except ImageError as error:
                lost[place] = str(error)
                continue
            if classes is not None:
                arrays["labels"][place] = squash_map(classes, self.decoding.image_size)
        return lost

    def check_unreadable(self, reason: str) -> None:
        """Tell of the images that cannot be read; ValueError for too many."""
        lost = sum(self.unreadable.values())
        note = f"{lost} images that cannot be read, others in their place; the last: {reason}"
        self.on_progress(f"{self.split} faults", lost, lost, note)  # as done: always shown
        if lost > max(FEW_UNREADABLE, MOST_UNREADABLE * self.num_images):
            raise ValueError(
                f"{lost} of {self.num_images} images in split {self.split!r} of {self.source.uri} cannot be read, the "
                f"last {reason}; expected at most {MOST_UNREADABLE:.0%}, or {FEW_UNREADABLE}; mend them, or leave "
                "them out by source.exclude"
            )

    def close(self) -> None:
        """Decode nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def key_of(rows: pa.Table, decoding: Decoding) -> str:
    """A name of the pixels of rows: which images and maps in which versions, and how they are decoded."""
    maps = [name for name in ("mask_uri", "mask_version") if name in rows.column_names]
    known = [rows.select(["key", "uri", "version", "label", *maps]).to_pylist(), rows.schema.metadata, decoding]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:32]
