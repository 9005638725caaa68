import os
import signal
import sys

import pytest
from ray.exceptions import RayTaskError

from seit_ray.distributed import cluster
from seit_ray.storage import StorageError


class Starts:
    """ray.init of a machine that is too busy at first."""

    def __init__(self, late):
        self.late, self.asked, self.ended = late, [], 0

    def init(self, **options):
        self.asked.append(options)
        if len(self.asked) <= self.late:
            raise Exception("The current node timed out during startup. This could happen because ...")
        return "session"

    def shutdown(self):
        self.ended += 1


@pytest.fixture
def starts(monkeypatch):
    def of(late):
        found = Starts(late)
        monkeypatch.setattr(cluster.ray, "init", found.init)
        monkeypatch.setattr(cluster.ray, "shutdown", found.shutdown)
        return found

    return of


def test_a_node_that_starts_slowly_is_started_again(starts):
    found = starts(2)
    assert cluster.started(address="local") == "session"
    assert (found.asked, found.ended) == ([{"address": "local"}] * 3, 2)


def test_one_that_never_starts_is_one_line(starts, monkeypatch):
    found = starts(100)
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    text = r"ray at local cannot be reached \(it did not start within 30 s, 5 times"
    with pytest.raises(ValueError, match=text), cluster.connected("local", num_cpus=1):
        raise AssertionError("never here")
    assert len(found.asked) == cluster.START_ATTEMPTS


def test_other_errors_are_not_tried_again(starts, monkeypatch):
    found = starts(0)
    monkeypatch.setattr(cluster.ray, "init", lambda **options: (_ for _ in ()).throw(ConnectionError("refused")))
    with pytest.raises(ConnectionError):
        cluster.started(address="10.0.0.1:6379")
    assert found.ended == 0


def raised(function):
    """The exception that function() ends with."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is tested
        function()
    return caught.value


def test_a_fault_of_the_program_is_no_mistake_of_the_user():
    def handling():
        try:
            int("x")
        except ValueError:
            {}["key"]  # a fault, while a ValueError was handled

    assert cluster.user_error(raised(handling)) is None


def test_a_mistake_of_the_user_is_found_in_what_wraps_it():
    mistake = StorageError("s3://b/k stopped answering; expected a server\nand a line of Ray", "unavailable")

    def wrapping():
        try:
            raise mistake
        except StorageError as error:
            raise RuntimeError("a task failed") from error

    by_ray = RayTaskError("task", "traceback", mistake)
    for error in (mistake, raised(wrapping), by_ray, RayTaskError("task", "traceback", raised(wrapping))):
        found = cluster.user_error(error)
        assert (str(found), found.kind) == ("s3://b/k stopped answering; expected a server", "unavailable")


def ended_while_starting():
    """As ray.init, to which SIGTERM comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(signal.SIGTERM))
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_sigterm_while_ray_starts_is_told_to_the_program():
    """Ray's own handler ends with 15, which nobody would take for a stopped job."""
    told, kept = [], signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, lambda *which: told.append(which[0]))
        mine = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit), cluster.sigterm_kept():
            ended_while_starting()
        assert told == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, kept)
