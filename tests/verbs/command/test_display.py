"""Progress where there is no terminal: few, plain lines."""

import re

import pytest

from seit_ray.progress import silent
from seit_ray.verbs.command import display as module
from seit_ray.verbs.command.display import Display


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    state = {"now": 0.0}
    monkeypatch.setattr(module.time, "monotonic", lambda: state["now"])
    return state


def lines_of(capsys):
    out, error = capsys.readouterr()
    assert out == ""
    return [re.sub(r" +", " ", line.strip()) for line in error.splitlines()]


def test_first_and_last_and_now_and_then(capsys, clock):
    with Display() as progress:
        for done in range(101):
            clock["now"] = done * 0.1
            progress("tokenise", done, 100, "3 rejected" if done == 100 else "")
    assert lines_of(capsys) == [
        "tokenise 0/100 (0%) 0.0 s",
        "tokenise 50/100 (50%) 5.0 s",
        "tokenise 100/100 (100%) 10.0 s 3 rejected",
    ]


def test_phases_have_times_of_their_own(capsys, clock):
    progress = Display()
    progress("list", 10, 0)
    clock["now"] = 4.0
    progress("k-means", 1, 20, "iterations")
    progress("list", 20, 0)  # too soon
    clock["now"] = 6.0
    progress("list", 30, 0, "images")
    assert lines_of(capsys) == ["list 10 0.0 s", "k-means 1/20 (5%) 0.0 s iterations", "list 30 6.0 s images"]


def test_no_progress_is_silent(capsys):
    silent("list", 1, 2, "note")
    assert capsys.readouterr() == ("", "")
