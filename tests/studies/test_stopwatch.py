"""Times of phases, over several calls."""

import pytest

from seit_ray.studies.stopwatch import Stopwatch, seconds_of


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test lets pass."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_phases_add_up_over_calls_and_what_is_done_is_not_timed(run, clock):
    assert seconds_of(run) == {}
    done = {"a": "a.json", "b": "b.json"}

    def interrupted():
        with Stopwatch(run, done).phase("a"):
            clock[0] += 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    watch = Stopwatch(run, done)  # of the call that goes on
    with watch.phase("a"):
        clock[0] += 4
        run.write("a.json", b"{}")
    with watch.phase("b"):
        clock[0] += 1.5
    with watch.phase("a"):
        clock[0] += 100
    assert seconds_of(run) == {"a": 7.0, "b": 1.5}
