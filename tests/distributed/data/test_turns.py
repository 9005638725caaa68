"""The two parts that an actor has: what they do at the same time, and what one after the other."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from seit_ray.images import decoded, reading
from seit_ray.images.decoded import decode_rows
from seit_ray.shards.parts import PartFiles
from tests.distributed.data.test_parts import FILES, worker_of


def test_one_part_is_read_and_written_while_another_is_encoded(tmp_path, monkeypatch):
    worker, _ = worker_of(tmp_path, FILES, rows_per_part=3)
    fetch, encode, write = reading.fetch_images, worker.tokenizer.encode, worker.files.write
    both_read, is_first, encoded_twice = threading.Barrier(2, timeout=30), iter([True]), threading.Event()
    busy, wrong = [], []

    def fetched(*arguments, **options):
        if not both_read.broken:
            both_read.wait()  # each has asked for its first bytes before either has them
        return fetch(*arguments, **options)

    def decode(*arguments):
        wrong.extend(busy)
        busy.append(threading.get_ident())
        return decode_rows(*arguments)

    def encoded(images):
        tokens = encode(images)
        busy.remove(threading.get_ident())
        return tokens

    def written(*arguments, **options):
        if next(is_first, False):
            assert encoded_twice.wait(30), "the other part was not encoded meanwhile"
        else:
            encoded_twice.set()
        return write(*arguments, **options)

    monkeypatch.setattr(reading, "fetch_images", fetched)
    monkeypatch.setattr(decoded, "decode_rows", decode)
    monkeypatch.setattr(worker.tokenizer, "encode", encoded)
    monkeypatch.setattr(PartFiles, "write", staticmethod(written))
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda index: worker.finish("train", index), range(2)))
    assert [part.rows for part in made] == [3, 3]
    assert wrong == []  # never two at a time
    both_read.abort()
    assert [worker.finish("train", index).rows for index in (2, 3)] == [3, 3]  # nobody kept the turn


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_part_that_fails_leaves_its_turn(tmp_path, monkeypatch, earlier):
    """Also where somebody keeps its traceback; with and without the care of a second attempt."""
    worker, _ = worker_of(tmp_path, FILES, rows_per_part=6)
    for index in range(earlier):
        worker.attempts.begin("train", index, 0)
    monkeypatch.setattr(worker, "encode", lambda images: 1 // 0)
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(worker.finish, "train", 0).exception()
    assert isinstance(error, ZeroDivisionError)
    monkeypatch.undo()
    assert worker.finish("train", 1).rows == 6


def test_no_other_part_is_decoded_beside_one_that_is_done_again(tmp_path, monkeypatch):
    """Until its notes are gone: should that end the process, it would be held against the one that has taken care."""
    worker, _ = worker_of(tmp_path, FILES, rows_per_part=6)
    worker.attempts.begin("train", 0, 0)
    begin, end, begun, seen = worker.attempts.begin, worker.attempts.end, threading.Event(), []

    def noted(split, index, earlier):
        begin(split, index, earlier)
        if earlier:
            begun.set()
            time.sleep(1)  # the other would be decoded by then

    def decode(*arguments):
        seen.append("other decoded")
        return decode_rows(*arguments)

    def forgotten(split, index, earlier):
        end(split, index, earlier)
        seen.append(f"end of {index}")

    def other():
        assert begun.wait(30)
        return worker.finish("train", 1)

    monkeypatch.setattr(worker.attempts, "begin", noted)
    monkeypatch.setattr(worker.attempts, "end", forgotten)
    monkeypatch.setattr(decoded, "decode_rows", decode)  # of the one that is not careful
    with ThreadPoolExecutor(2) as pool:
        parts = [pool.submit(worker.finish, "train", 0), pool.submit(other)]
    assert [part.result().rows for part in parts] == [6, 6]
    assert seen == ["end of 0", "other decoded", "end of 1"]
