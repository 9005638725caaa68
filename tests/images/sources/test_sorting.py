"""Rows sorted on the disk: the same as in memory, in slices that are alike, with little of them in memory."""

import errno
import tempfile

import numpy as np
import pyarrow as pa
import pytest

from seit_ray.images.sources import sorting
from seit_ray.images.sources.sorting import SortedRows
from seit_ray.storage import StorageError


def tables_of(keys, each):
    for start in range(0, len(keys), each):
        part = keys[start : start + each]
        yield pa.table({"key": pa.array(part, pa.binary()), "size": pa.array([len(key) for key in part], pa.int64())})


@pytest.mark.parametrize("slice_rows", [1, 7, 100, 10_000])
@pytest.mark.parametrize("run_bytes", [1, 3000, 1 << 30])
def test_slices_hold_all_rows_in_order(monkeypatch, slice_rows, run_bytes):
    monkeypatch.setattr(sorting, "RUN_BYTES", run_bytes)
    monkeypatch.setattr(sorting, "PAGE_ROWS", 16)
    keys = [b"%d" % number for number in np.random.default_rng(0).integers(0, 400, 1000)]
    found = SortedRows(tables_of(keys, 90), slice_rows)
    assert found.num_rows == len(keys)
    slices = list(found.slices())
    assert pa.concat_tables(slices).equals(next(tables_of(sorted(keys), len(keys))))
    firsts, lasts = ([table["key"][place] for table in slices] for place in (0, -1))
    assert all(last != first for last, first in zip(lasts, firsts[1:], strict=False))
    most = max(map(len, slices))
    assert most <= slice_rows + 2 * len(found.runs) * max(1, slice_rows // sorting.MARKS) + max(map(keys.count, keys))
    assert pa.concat_tables(found.slices()).equals(pa.concat_tables(slices))  # again


def test_of_nothing_there_is_no_slice():
    found = SortedRows(tables_of([], 1), 10)
    assert (found.num_rows, list(found.slices())) == (0, [])


def test_memory_does_not_grow_with_the_rows(monkeypatch):
    """Of 100 bytes a row some 8 MiB are sorted at a time, and the most of it is a few times that."""
    monkeypatch.setattr(sorting, "RUN_BYTES", 8 << 20)
    numbers = np.random.default_rng(0)

    def made(rows):
        for _ in range(0, rows, 50_000):
            digits = numbers.integers(48, 58, (50_000, 92), np.uint8)
            ends = pa.py_buffer(np.arange(0, 92 * 50_001, 92, np.int32))
            keys = pa.Array.from_buffers(pa.binary(), 50_000, [None, ends, pa.py_buffer(digits)])
            yield pa.table({"key": keys, "size": pa.array(np.zeros(50_000, np.int64))})

    most = {}
    before = pa.default_memory_pool()
    for rows in (200_000, 800_000):
        pool = pa.proxy_memory_pool(before)
        pa.set_memory_pool(pool)
        try:
            found = SortedRows(made(rows), 20_000)
            assert sum(map(len, found.slices())) == found.num_rows == rows
        finally:
            pa.set_memory_pool(before)
        most[rows] = pool.max_memory()
    assert most[800_000] < 1.3 * most[200_000]
    assert most[800_000] < 48 << 20  # of 76 MiB


def test_a_disk_that_is_full_is_named(monkeypatch):
    def full(table, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sorting, "write_run", full)
    with pytest.raises(StorageError, match="was not written: the disk is full") as error:
        SortedRows(tables_of([b"a"], 1), 10)
    assert error.value.kind == "full"


def test_nothing_stays_on_the_disk(monkeypatch, tmp_path):
    """Not even while it is there, so that a kill leaves nothing either."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = SortedRows(tables_of([b"b", b"a"], 1), 10)
    assert len(found.runs) == 1
    assert not list(tmp_path.iterdir())
    assert pa.concat_tables(found.slices())["key"].to_pylist() == [b"a", b"b"]
