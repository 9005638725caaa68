"""Arrays that processes of a node share."""

import gc
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from seit_ray.batches import shared
from seit_ray.batches.shared import lock_folder, shared_arrays

LAYOUT = {"tokens": ((100, 7), np.uint16), "labels": ((100,), np.int64)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A place of this test's own for locks and data."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(shared, "MEMORY", tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    shared._SEEN.clear()
    return tmp_path


def fill(arrays):
    """Numbers that tell."""
    arrays["tokens"][:] = np.arange(700).reshape(100, 7)
    arrays["labels"][:] = np.arange(100)


def refuse(arrays):
    raise AssertionError("filled again")


def files(folder):
    """Names of all files, without folders."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_second_user_gets_what_the_first_filled(folder):
    first = shared_arrays("key", LAYOUT, fill)
    second = shared_arrays("key", LAYOUT, refuse)
    assert files(folder) == ["key.data", "key.lock", "key.used"]
    for found in (first, second):
        assert found["tokens"].tolist() == np.arange(700).reshape(100, 7).tolist()
        assert found["labels"].tolist() == list(range(100))


def test_changes_stay_with_who_makes_them():
    first, second = shared_arrays("key", LAYOUT, fill), shared_arrays("key", LAYOUT, refuse)
    first["tokens"][3] = 9
    assert second["tokens"][3, 0] == 21


def test_the_last_user_takes_the_files_along(folder):
    first, second = shared_arrays("key", LAYOUT, fill), shared_arrays("key", LAYOUT, refuse)
    del first
    gc.collect()
    assert files(folder) == ["key.data", "key.lock", "key.used"]
    del second
    gc.collect()
    assert files(folder) == []


def test_other_keys_are_other_arrays():
    one = shared_arrays("one", LAYOUT, fill)
    other = shared_arrays("other", LAYOUT, lambda arrays: arrays["labels"].fill(5))
    assert (one["labels"][7], other["labels"][7]) == (7, 5)


def test_a_failed_filling_leaves_nothing(folder):
    def fail(arrays):
        raise ValueError("damaged shard")

    with pytest.raises(ValueError, match="damaged shard"):
        shared_arrays("key", LAYOUT, fail)
    assert not [name for name in files(folder) if not name.endswith((".lock", ".used"))]
    assert shared_arrays("key", LAYOUT, fill)["labels"][9] == 9


def test_no_room_is_an_error(monkeypatch):
    monkeypatch.setattr(shared.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(
        ValueError, match=r"MiB of tokens or pixels in .*; expected room for them; free some, or lower loop.memory"
    ):
        shared_arrays("key", LAYOUT, fill)


def test_data_lie_beside_the_locks_where_memory_has_no_room(folder, monkeypatch):
    usage = shared.shutil.disk_usage

    def small_memory(path):
        return type("Usage", (), {"free": 0})() if "memory" in str(path.relative_to(folder)) else usage(path)

    monkeypatch.setattr(shared.shutil, "disk_usage", small_memory)
    kept = shared_arrays("key", LAYOUT, fill)
    assert kept["labels"][5] == 5
    assert (lock_folder() / "key.data").exists()


def count_fills(folder, start, queue):
    """A process that asks for the arrays, and says whether it filled them."""
    shared.MEMORY = folder / "memory"
    filled = []

    def slow_fill(arrays):
        filled.append(True)
        time.sleep(0.3)
        fill(arrays)

    start.wait()
    found = shared_arrays("key", LAYOUT, slow_fill)
    queue.put((len(filled), int(found["tokens"].sum())))
    time.sleep(0.5)


def test_of_several_processes_one_fills(folder):
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    processes = [context.Process(target=count_fills, args=(folder, start, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    found = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(30)
    assert sum(filled for filled, _ in found) == 1
    assert {total for _, total in found} == {699 * 700 // 2}


def hold(folder, ready):
    """A process that keeps arrays until it is killed."""
    shared.MEMORY = folder / "memory"
    kept = shared_arrays("key", LAYOUT, fill)
    ready.set()
    time.sleep(60)
    del kept


@pytest.mark.parametrize("next_key", ["key", "another"])
def test_what_a_killed_process_left_is_taken_over_or_removed(folder, next_key):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(folder, ready))
    process.start()
    assert ready.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert files(folder) == ["key.data", "key.lock", "key.used"]
    found = shared_arrays(next_key, LAYOUT, refuse if next_key == "key" else fill)
    assert found["labels"][3] == 3
    assert files(folder) == [f"{next_key}.data", f"{next_key}.lock", f"{next_key}.used"]
