"""One writer at a time: taken by one, refused to others while it lives, taken over once it is gone."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid

import pytest

from seit_ray.storage import lock, objects
from seit_ray.storage.lock import LockedError, locked, remove_ended

NAME = "_lock.json"
QUICK = {"beat_s": 0.05, "silent_s": 0.6, "settle_s": 0.05}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(objects, "SETTLE_S", 0.5)


def held(folder):
    return json.loads(folder.read(NAME))


def foreign(folder, **changes):
    """The lock of a job on another machine."""
    with locked(folder, NAME, **QUICK):
        content = held(folder)
    other = {"token": uuid.uuid4().hex, "machine": "another:boot", "host": "far-away", "beat": 1}
    folder.write(NAME, json.dumps({**content, "time": time.time(), **other, **changes}).encode())


def beating(folder, stop):
    """Renews a foreign lock as its owner would."""
    while not stop.wait(0.05):
        folder.write(NAME, json.dumps({**held(folder), "beat": time.monotonic_ns()}).encode())


def test_it_is_held_and_then_gone(folder):
    with locked(folder, NAME, **QUICK) as mine:
        first = held(folder)
        assert (first["pid"], first["token"]) == (mine.holder.pid, mine.holder.token)
        deadline = time.monotonic() + 30
        while held(folder)["beat"] == first["beat"]:
            assert time.monotonic() < deadline, "not renewed"
            time.sleep(0.02)
        mine.check()
    assert list(folder.list(include_hidden=True)) == []


def test_it_is_gone_after_an_error(folder):
    with pytest.raises(KeyError), locked(folder, NAME, **QUICK):
        raise KeyError
    assert not folder.exists(NAME)


def test_a_second_job_is_refused_at_once_on_the_same_machine(folder):
    with locked(folder, NAME, **QUICK):
        refused = pytest.raises(LockedError, match="expected one job at a time")
        with refused as error, locked(folder, NAME, beat_s=1000, silent_s=1000, settle_s=1000):
            pytest.fail("two writers")
        assert folder.uri in str(error.value)
        assert "\n" not in str(error.value)
        assert folder.exists(NAME)


def test_of_many_at_once_one_wins(folder):
    inside, refused, go, most = [], [], threading.Barrier(6), []

    def work():
        go.wait()
        try:
            with locked(folder, NAME, **QUICK):
                inside.append(1)
                most.append(len(inside))
                time.sleep(1.5)
                inside.pop()
        except LockedError:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(refused) + len(most) == 6


def test_a_job_of_another_machine_that_lives_is_left_alone(folder):
    foreign(folder)
    stop = threading.Event()
    thread = threading.Thread(target=beating, args=(folder, stop))
    thread.start()
    try:
        with pytest.raises(LockedError, match="far-away"), locked(folder, NAME, **{**QUICK, "silent_s": 30}):
            pytest.fail("two writers")
    finally:
        stop.set()
        thread.join()
    assert held(folder)["host"] == "far-away"


def test_a_job_of_another_machine_without_a_sign_of_life_is_taken_over(folder):
    foreign(folder)
    notes = []
    with locked(folder, NAME, on_note=notes.append, **QUICK) as mine:
        assert held(folder)["token"] == mine.holder.token
    assert notes[0].startswith("waiting up to")
    assert notes[-1].startswith("taken over from")
    assert "far-away" in notes[-1]


def test_a_lock_of_long_ago_is_taken_over_at_once(folder):
    foreign(folder, time=time.time() - 2 * lock.STALE_S)
    notes = []
    with locked(folder, NAME, on_note=notes.append, **{**QUICK, "silent_s": 1000}):
        assert len(notes) == 1


def test_a_killed_job_of_this_machine_is_taken_over_at_once(folder):
    with locked(folder, NAME, **QUICK):
        content = held(folder)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = lock.start_of(child.pid)
    folder.write(NAME, json.dumps({**content, "pid": child.pid, "started": started, "time": time.time()}).encode())
    with pytest.raises(LockedError), locked(folder, NAME, **QUICK):
        pytest.fail("two writers")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays as a zombie
    notes = []
    with locked(folder, NAME, on_note=notes.append, **{**QUICK, "silent_s": 1000}):
        assert len(notes) == 1
    child.communicate()
    assert lock.start_of(child.pid) == ""


def test_the_lock_of_a_job_that_was_killed_behind_its_work_is_removed_and_no_other(folder):
    remove_ended(folder, NAME, settle_s=0.05)  # there is none
    with locked(folder, NAME, **QUICK):
        content = held(folder)
        remove_ended(folder, NAME, settle_s=0.05)
        assert held(folder)["token"] == content["token"]
    foreign(folder)
    remove_ended(folder, NAME, settle_s=0.05)  # of another machine, which may be at it
    assert folder.exists(NAME)
    folder.write(NAME, b"{")
    remove_ended(folder, NAME, settle_s=0.05)
    assert folder.exists(NAME)
    folder.write(NAME, json.dumps({**content, "token": "other", "started": "1"}).encode())
    remove_ended(folder, NAME, settle_s=0.05)
    assert not folder.exists(NAME)


def test_a_number_of_a_process_that_was_given_again_is_not_mistaken(folder):
    with locked(folder, NAME, **QUICK):
        content = held(folder)
    folder.write(NAME, json.dumps({**content, "token": "other", "started": "1"}).encode())
    with locked(folder, NAME, **QUICK) as mine:
        assert held(folder)["token"] == mine.holder.token


@pytest.mark.parametrize("happens", ["removed", "taken"])
def test_a_lock_that_was_lost_stops_its_owner(folder, happens):
    with locked(folder, NAME, **{**QUICK, "beat_s": 1000}) as mine:
        folder.delete(NAME) if happens == "removed" else foreign_over(folder)
        with pytest.raises(LockedError, match=r"was (removed|taken over)"):
            mine.check()
    assert folder.exists(NAME) == (happens == "taken")  # another's lock is not released


def foreign_over(folder):
    folder.write(NAME, json.dumps({**held(folder), "token": "other", "host": "far-away"}).encode())


def test_a_lock_that_cannot_be_read(folder):
    folder.write(NAME, b"{}")
    with pytest.raises(LockedError, match="delete it if no job is running"), locked(folder, NAME, **QUICK):
        pytest.fail("held")
    assert folder.read(NAME) == b"{}"
