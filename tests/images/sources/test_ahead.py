import threading
import time

import pytest

from seit_ray.images.sources.ahead import CHUNK, CHUNKS_AHEAD, read_ahead


@pytest.mark.parametrize("files_ahead", [1, 3, 16])
def test_records_come_in_the_order_of_the_files(files_ahead):
    sizes = [3, 0, CHUNK + 1, 1, 2 * CHUNK, 5, 7]

    def read(file):
        time.sleep(0.001 * (len(sizes) - file))  # the last is ready first
        yield from ((file, number) for number in range(sizes[file]))

    found = list(read_ahead(range(len(sizes)), read, files_ahead))
    assert found == [(file, number) for file, size in enumerate(sizes) for number in range(size)]


def test_several_files_are_read_at_a_time_and_no_more():
    begun, under_way, most = threading.Barrier(4, timeout=20), [0], [0]
    lock = threading.Lock()

    def read(file):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        begun.wait()  # only four together come past it
        yield file
        with lock:
            under_way[0] -= 1

    assert list(read_ahead(range(16), read, 4)) == list(range(16))
    assert most[0] == 4


@pytest.mark.parametrize("files_ahead", [1, 4])
def test_an_error_comes_where_the_records_of_its_file_would(files_ahead):
    def read(file):
        yield file
        if file == 2:
            raise ValueError("broken")
        yield file + 0.5

    found = []
    with pytest.raises(ValueError, match="broken"):
        found.extend(found.append(record) for record in read_ahead(range(9), read, files_ahead))
    assert [record for record in found if record is not None][:4] == [0, 0.5, 1, 1.5]


def test_what_is_not_read_on_ends_and_memory_is_bounded():
    made = [0]

    def read(file):
        while True:
            made[0] += 1
            yield file

    records = read_ahead(range(100), read, 3)
    assert next(records) == 0
    time.sleep(0.3)
    assert made[0] <= 3 * (CHUNKS_AHEAD + 2) * CHUNK
    records.close()
    stopped = made[0]
    time.sleep(0.2)
    assert made[0] == stopped
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("listing")]
