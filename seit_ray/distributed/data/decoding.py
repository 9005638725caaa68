"""Decoding away from who encodes: in Ray tasks on any node, through a bounded window."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayError, RayTaskError

from seit_ray.distributed.private import streaming_task
from seit_ray.images.careful import Arrays, decoded_carefully
from seit_ray.images.decoded import DecodedImages, Decoding, decoded_chunks
from seit_ray.images.fetch import row_group_ends
from seit_ray.images.reading import runs_of
from seit_ray.images.sources.addresses import address_in_parquet
from seit_ray.storage import Folder

SPAN_ROWS, SPAN_BYTES = 512, 128 << 20  # of one decoding task: images, and their pixels
LONG_BYTES = 256 << 20  # of the pixels of a row group whose task waits until they are taken
RETRIES = 2  # of a task that is lost, before its images are decoded carefully


def decode_span(listed: pa.Table, source: Folder, decoding: Decoding) -> Iterator[Arrays]:
    """Task: rows of the manifest -> `DecodedImages`, some at a time."""
    for chunk in decoded_chunks(listed, source, decoding):
        yield tuple(chunk)


def decoded_by_tasks(
    listed: pa.Table, source: Folder, decoding: Decoding, num_tasks: int, memory_bytes: int | None = None
) -> Generator[DecodedImages]:
    """The images of rows in order, by `num_tasks` tasks at a time.

    A task that holds its CPU while it waits for who takes its images could keep the one before it from starting
    again. So those that may wait, with long row groups of Parquet, run only while no other does.
    """
    # half a CPU where the source is remote: one waits for objects while the other decodes
    options = {"num_cpus": 0.5 if source.is_remote else 1, "memory": memory_bytes, "max_retries": RETRIES}
    most = max(1, min(SPAN_ROWS, SPAN_BYTES // decoding.pixel_bytes))
    longest = max(most, LONG_BYTES // decoding.pixel_bytes)
    spans = deque(spans_of(listed, source, most))
    started: deque[tuple[pa.Table, Any]] = deque()

    def start() -> None:
        while spans and len(started) < num_tasks:
            if started and (len(spans[0]) > longest or len(started[0][0]) > longest):
                return
            task = streaming_task(decode_span, may_wait=len(spans[0]) > longest, **options)
            started.append((spans[0], task.remote(spans.popleft(), source, decoding)))

    start()
    while started:
        span, stream = started[0]
        done = 0
        try:
            for reference in stream:
                pixels, rows, rejected = ray.get(reference)
                done += len(rows) + len(rejected)
                # tables of their own: those of the object would keep its pixels as long as they are kept
                yield DecodedImages(pixels, copied(rows), copied(rejected))
        except RayTaskError:
            raise
        except RayError:  # its process has ended time and again, or what it had made is lost
            yield from decoded_carefully(span.slice(done), source, decoding)
        started.popleft()
        start()


def copied(table: pa.Table) -> pa.Table:
    """The same rows in memory of their own."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def spans_of(listed: pa.Table, source: Folder, most: int) -> Iterator[pa.Table]:
    """Rows of one task each: `most` at most; of a Parquet file, those of one row group, which is read once."""
    for start, stop, file in runs_of(listed["uri"].to_pylist()):
        rows = listed.slice(start, stop - start)
        if file is None:
            yield from (rows.slice(first, most) for first in range(0, len(rows), most))
            continue
        numbers = np.array([address.row for uri in rows["uri"].to_pylist() if (address := address_in_parquet(uri))])
        places = np.searchsorted(numbers, row_group_ends(source, file)).tolist()
        for first, last in itertools.pairwise([0, *places, len(rows)]):
            if last > first:
                yield rows.slice(first, last - first)
