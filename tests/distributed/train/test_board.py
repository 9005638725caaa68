"""What a worker makes of the notice that a node is about to be taken away."""

import time
from types import SimpleNamespace

import pytest

from seit_ray.distributed.train import board
from seit_ray.distributed.train.board import listening

POST = SimpleNamespace(remote=lambda: None)
BOARD = SimpleNamespace(post_saved=POST)  # of what a worker that is not the first one calls there


def wait_for(condition, timeout_s=20):
    """Whether it holds in time."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def notices(monkeypatch):
    """A list that holds something from the notice on; threads look fast."""
    monkeypatch.setattr(board, "POLL_S", 0.01)
    return []


def test_without_a_notice_nothing_is_asked(notices):
    with listening(BOARD, is_main=False, is_preempted=lambda: bool(notices)) as requests:
        time.sleep(0.1)
        assert not requests.save
        assert not requests.stop


def test_a_notice_asks_for_a_checkpoint_and_again_some_time_after_it_stands(notices, monkeypatch):
    monkeypatch.setattr(board, "SAVE_AGAIN_S", 0.3)
    with listening(BOARD, is_main=False, is_preempted=lambda: bool(notices)) as requests:
        notices.append("preempted")
        assert wait_for(lambda: requests.save)
        requests.save = False  # the loop has begun to write
        time.sleep(0.5)
        assert not requests.save  # not before that one stands
        stood = time.monotonic()
        requests.on_saved(7)
        assert wait_for(lambda: requests.save)
        assert time.monotonic() - stood >= 0.3
        assert not requests.stop  # the steps until the end count
