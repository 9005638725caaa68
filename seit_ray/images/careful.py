"""Decoding in a process that may end: an image whose decoding ends it becomes a reject.

For what is done again after its process has ended: some at a time, and where that ends the process, image by image.
Imports no torch, which each of the processes would have to load.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

import numpy as np
import pyarrow as pa

from seit_ray.images.decode import ImageError
from seit_ray.images.decoded import DecodedImages, Decoding, decode_rows
from seit_ray.images.pairs import Contents
from seit_ray.images.reading import read_chunks
from seit_ray.storage import Folder

Arrays = tuple[np.ndarray, pa.Table, pa.Table]  # of `DecodedImages`
ENDED = "its decoding ends the process that decodes; expected an image that the libraries can read; leave it out"


def decoded_carefully(listed: pa.Table, source: Folder, decoding: Decoding) -> Generator[DecodedImages]:
    """The images of rows in order, decoded in another process; those that end it are rejects."""
    pool = new_process()
    try:
        for rows, contents in read_chunks(listed, source, decoding):
            try:
                yield DecodedImages(*pool.submit(decode_there, alone(rows), contents, decoding).result())
            except BrokenProcessPool:
                pool = new_process()
                for place, content in enumerate(contents):
                    row = rows.take([place])  # a slice would travel with all other rows
                    try:
                        yield DecodedImages(*pool.submit(decode_there, row, [content], decoding).result())
                    except BrokenProcessPool:
                        pool = new_process()
                        yield decode_rows(row, [ImageError(ENDED)], decoding)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def new_process() -> ProcessPoolExecutor:
    """One process that decodes; RuntimeError where none can be started, which is no image's fault."""
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent)
    try:
        pool.submit(int).result()
    except BrokenProcessPool as error:
        raise RuntimeError("a process to decode in ends at once: there may be too little memory") from error
    return pool


def end_with_parent() -> None:
    """Have this process end when the one that started it has been killed, which tells it nothing."""
    parent = parent_process()
    assert parent is not None  # it was spawned

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def alone(rows: pa.Table) -> pa.Table:
    """A slice of a table without the other rows, which else travel with it."""
    return rows.take(np.arange(len(rows)))


def decode_there(rows: pa.Table, contents: Contents, decoding: Decoding) -> Arrays:
    """`decode_rows` for another process."""
    return tuple(decode_rows(rows, contents, decoding))
