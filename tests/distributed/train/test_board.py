"""What a worker makes of the notice that a node is about to be taken away."""

import time
from types import SimpleNamespace

import pytest

from seit_ray.distributed.train import board
from seit_ray.distributed.train.board import following, listening
from seit_ray.training.requests import Requests

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


def test_workers_that_do_not_start_are_said_to_be_waited_for(monkeypatch):
    monkeypatch.setattr(board, "POLL_S", 0.01)
    monkeypatch.setattr(board, "SAY_EVERY_S", 0.1)
    states, seen = [], [None]
    monkeypatch.setattr(board, "look", lambda _: (seen[0], None))
    missing = ["8 workers need 8 CPUs of 2"]
    with following(BOARD, lambda *state: states.append(state), Requests(), lambda: missing[0]):
        assert wait_for(lambda: len(states) >= 2)
        assert set(states) == {("train", 0, 0, "8 workers need 8 CPUs of 2")}
        missing[0] = ""
        assert wait_for(lambda: states[-1][3] == "waiting for the workers to start")
        seen[0] = ("train", 3, 10, "")
        assert wait_for(lambda: states[-1] == seen[0])
        number = len(states)
        time.sleep(0.3)
        assert len(states) == number
