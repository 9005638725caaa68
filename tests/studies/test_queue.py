"""Which trial comes next."""

import pytest

from seit_ray.studies.queue import Queue
from seit_ray.studies.trials import Trial


def trial(name, *needs, cost=1.0):
    return Trial(name, {}, (), needs=needs, cost=cost)


def test_what_most_waits_for_comes_first_and_short_ones_fill_up():
    trials = [trial("short", cost=0.1), trial("long", cost=3), trial("data"), trial("train", "data", cost=5)]
    queue, order = Queue(trials), []
    while (found := queue.next()) is not None:
        order.append(found.name)
    assert order == ["data", "long", "short"]  # data and train together are the longest way
    assert not queue.is_empty
    queue.end("data", good=True)
    assert queue.next().name == "train"
    assert queue.is_empty


def test_what_has_finished_is_not_handed_out():
    queue = Queue([trial("data"), trial("train", "data")], finished={"data"})
    assert queue.next().name == "train"
    assert queue.next() is None


def test_a_failure_takes_along_all_that_needs_it_and_nothing_else():
    queue = Queue([trial("data"), trial("a", "data"), trial("b", "a"), trial("other")])
    assert queue.next().name == "data"
    queue.end("data", good=False)
    assert queue.lost == {"a": "data", "b": "a"}
    assert queue.next().name == "other"
    assert queue.is_empty


def test_needs_that_are_not_there_or_go_in_a_circle_are_refused():
    with pytest.raises(ValueError, match="trial a needs b, which the study has not"):
        Queue([trial("a", "b")])
    with pytest.raises(ValueError, match="trial a needs itself"):
        Queue([trial("a", "b"), trial("b", "a"), trial("c")])
