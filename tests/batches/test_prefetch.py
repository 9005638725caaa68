"""Batches made ahead by a thread."""

import threading

import pytest

from seit_ray.batches.prefetch import Prefetch


def test_results_come_in_order_and_are_made_ahead():
    made, third = [], threading.Event()

    def make(step):
        made.append(step)
        if step == 5:
            third.set()
        return step * 10

    prefetch = Prefetch(make, 3, 8)
    assert prefetch.next() == 30
    assert third.wait(10)  # nobody has asked for it yet
    assert [prefetch.next() for _ in range(4)] == [40, 50, 60, 70]
    prefetch.close()
    assert made == [3, 4, 5, 6, 7]
    assert prefetch.wait_s >= 0


def test_no_more_than_the_depth_is_made_ahead():
    made = []
    prefetch = Prefetch(lambda step: made.append(step), 0, 1000, depth=2)
    prefetch.next()
    prefetch.close()
    assert len(made) <= 5


def test_an_error_comes_up_at_its_step():
    def make(step):
        if step == 1:
            raise ValueError("damaged shard")
        return step

    prefetch = Prefetch(make, 0, 5)
    assert prefetch.next() == 0
    with pytest.raises(ValueError, match="damaged shard"):
        prefetch.next()
    prefetch.close()


def test_waiting_is_measured():
    release = threading.Event()
    prefetch = Prefetch(lambda step: release.wait(10), 0, 1)
    threading.Timer(0.2, release.set).start()
    prefetch.next()
    assert prefetch.wait_s > 0.1
    prefetch.close()


def test_closing_ends_the_thread_at_any_time():
    for steps in (0, 1, 100):
        prefetch = Prefetch(lambda step: step, 0, steps)
        prefetch.close()
        assert not prefetch._thread.is_alive()
