"""Shards in memory: each is read once as long as there is room, however it is asked for."""

import threading
import time

import numpy as np
import pytest

from seit_ray.batches.held import LARGE_BYTES, HeldShards
from seit_ray.batches.shared import SharedArrays


def held(shard_rows, read, *, num_readers=2):
    """Shards of one array, with room for all of them."""
    return HeldShards(shard_rows, read, row_bytes=8, memory_bytes=1 << 20, shuffle_rows=None, num_readers=num_readers)


@pytest.mark.parametrize("shard_rows", [(6,), (4, 4), (4, 4, 3)])
def test_a_set_that_fits_is_read_once(shard_rows):
    """Also where the group of shards that follows is the one that is read already: that of the next epoch."""
    reads = []

    def read(shard):
        reads.append(shard)
        time.sleep(0.02)
        return SharedArrays({"rows": np.full(shard_rows[shard], shard)})

    shards = held(shard_rows, read)
    for step in range(6):
        rows = shards.step_rows(3, 0, step)
        expected = np.repeat(np.arange(len(shard_rows)), shard_rows)[rows]
        assert np.array_equal(shards.rows(rows, ("rows",))[0], expected)
    assert sorted(reads) == [*range(len(shard_rows))]
    shards.close()


def test_what_is_waited_for_is_not_read_again():
    reads, go_on = [], threading.Event()

    def read(shard):
        reads.append(shard)
        assert go_on.wait(30)
        return SharedArrays({"rows": np.arange(4)})

    shards = held((4,), read)
    shards.begin([0])
    waiting = threading.Thread(target=shards.arrays, args=(0,))
    waiting.start()
    time.sleep(0.05)  # in which it begins to wait
    shards.begin([0])
    go_on.set()
    waiting.join()
    assert reads == [0]
    shards.close()


def test_what_could_not_be_read_is_read_again():
    reads = []

    def read(shard):
        reads.append(shard)
        if len(reads) == 1:
            raise OSError("storage is down")
        return SharedArrays({"rows": np.arange(4)})

    shards = held((4,), read)
    shards.begin([0])
    with pytest.raises(OSError, match="storage is down"):
        shards.arrays(0)
    assert np.array_equal(shards.arrays(0)["rows"], np.arange(4))
    shards.close()


@pytest.mark.parametrize("width", [1, LARGE_BYTES])
def test_rows_come_in_the_order_asked_for(width):
    """Small rows many at a time, large ones one by one; the same row may be asked for twice."""

    def read(shard):
        return SharedArrays({"rows": np.repeat(np.arange(4 * shard, 4 * shard + 4, dtype=np.uint8)[:, None], width, 1)})

    shards = held((4, 4, 3), read)
    for rows in (np.array([10, 0, 5, 5, 4, 10]), np.arange(11)[::-1], np.array([7])):
        (found,) = shards.rows(rows, ("rows",))
        assert found.shape == (len(rows), width)
        assert (found == rows[:, None]).all()
    assert shards.num_held == 11
    shards.close()
