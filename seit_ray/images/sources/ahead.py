"""The records of many files in the order of the files, several of which are read at a time.

A file in a bucket is read by small requests, each of which waits; one after the other a thousand tars take hours.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from seit_ray.storage import Folder

File = TypeVar("File")
Record = TypeVar("Record")
FILES_AHEAD, CHUNKS_AHEAD, CHUNK = 16, 8, 500  # files at a time, chunks of each that wait, records a chunk

_Chunk = list[Record] | BaseException | None  # None: the file ends


def files_at_a_time(folder: Folder) -> int:
    """How many to read at a time: a disk does not let one wait."""
    return FILES_AHEAD if folder.is_remote else 1


def read_ahead(files: Iterable[File], read: Callable[[File], Iterator[Record]], files_ahead: int) -> Iterator[Record]:
    """The records of each file, one file after the other; an error comes where its file's records would.

    Memory: files_ahead * CHUNKS_AHEAD * CHUNK records at most. One file at a time, without threads, for files_ahead 1.
    """
    if files_ahead == 1:
        for file in files:
            yield from read(file)
        return
    ended = threading.Event()
    pool = ThreadPoolExecutor(files_ahead, thread_name_prefix="listing")
    coming = iter(files)
    begun: deque[queue.Queue[_Chunk[Record]]] = deque()

    def begin(file: File) -> None:
        begun.append(queue.Queue(CHUNKS_AHEAD))
        pool.submit(_fill, begun[-1], read, file, ended)

    try:
        for file in islice(coming, files_ahead):
            begin(file)
        while begun:
            while (chunk := begun[0].get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield from chunk
            begun.popleft()
            for file in islice(coming, 1):
                begin(file)
    finally:
        ended.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _fill(
    into: queue.Queue[_Chunk[Record]], read: Callable[[File], Iterator[Record]], file: File, ended: threading.Event
) -> None:
    try:
        records = read(file)
        while chunk := list(islice(records, CHUNK)):
            if not _put(into, chunk, ended):
                return
        _put(into, None, ended)
    except BaseException as error:
        _put(into, error, ended)


def _put(into: queue.Queue[_Chunk[Record]], chunk: _Chunk[Record], ended: threading.Event) -> bool:
    """Whether it found room before nobody reads any more."""
    while not ended.is_set():
        try:
            into.put(chunk, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
