"""Metrics: records, truncation on resuming, TensorBoard files."""

import json
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seit_ray.training import metrics
from seit_ray.training.metrics import MetricsLog, read_metrics


def write_steps(run, start, steps):
    """A log that adds a record for each of the steps, and ends."""
    log = MetricsLog(run, start)
    for step in steps:
        log.add({"step": step, "train_loss": 1.0 / step, "note": "text"})
    log.close()


def board_of(run):
    """TensorBoard's view: step -> value of train_loss."""
    board = EventAccumulator(f"{run.uri}/tensorboard")
    board.Reload()
    return {event.step: event.value for event in board.Scalars("train_loss")}


def test_records_are_lines_of_json(run):
    write_steps(run, 0, [1, 2, 4])
    lines = run.read("metrics.jsonl").decode().splitlines()
    assert [json.loads(line) for line in lines] == read_metrics(run)
    assert read_metrics(run) == [{"step": s, "train_loss": 1.0 / s, "note": "text"} for s in (1, 2, 4)]


def test_a_new_run_has_no_metrics(run):
    assert read_metrics(run) == []


def test_nothing_is_written_before_a_flush(run):
    log = MetricsLog(run, 0)
    log.add({"step": 1, "train_loss": 2.0})
    assert read_metrics(run) == []
    log.flush()
    assert len(read_metrics(run)) == 1
    log.add({"step": 2, "train_loss": 1.5})
    log.close()
    assert [r["step"] for r in read_metrics(run)] == [1, 2]


def test_what_lies_beyond_the_checkpoint_is_dropped(run):
    write_steps(run, 0, [1, 2, 3, 4])
    write_steps(run, 2, [3, 5])
    assert [r["step"] for r in read_metrics(run)] == [1, 2, 3, 5]
    write_steps(run, 0, [1])
    assert [r["step"] for r in read_metrics(run)] == [1]


def test_tensorboard_shows_each_step_once(run):
    write_steps(run, 0, [1, 2, 3, 4])
    assert board_of(run) == pytest.approx({s: 1.0 / s for s in (1, 2, 3, 4)})
    write_steps(run, 2, [3, 5])
    assert board_of(run) == pytest.approx({s: 1.0 / s for s in (1, 2, 3, 5)})
    assert len(list(run.list("tensorboard/"))) == 2


class RemoteFolder:
    """A local folder that says it is remote."""

    is_remote = True

    def __init__(self, folder):
        self.folder = folder

    def __getattr__(self, name):
        return getattr(self.folder, name)


def test_remote_runs_hold_their_tensorboard_files(run, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    write_steps(RemoteFolder(run), 0, [1, 2])
    (entry,) = run.list("tensorboard/")
    assert entry.name.startswith("tensorboard/events.out.tfevents")
    assert board_of(run) == pytest.approx({1: 1.0, 2: 0.5})
    assert list(temporary.iterdir()) == []


class SlowFolder:
    """A store that answers when it is let."""

    is_remote = False

    def __init__(self, folder):
        self.folder, self.answers, self.asked = folder, threading.Event(), threading.Event()

    def write(self, name, data):
        self.asked.set()
        assert self.answers.wait(20)
        self.folder.write(name, data)

    def __getattr__(self, name):
        return getattr(self.folder, name)


def test_no_step_waits_for_a_slow_store(run, monkeypatch):
    monkeypatch.setattr(metrics, "FLUSH_EVERY_S", 0.0)
    slow = SlowFolder(run)
    log = MetricsLog(slow, 0, ())
    for step in range(1, 200):
        log.add({"step": step, "train_loss": 1.0})
    assert slow.asked.wait(20)
    assert not run.exists("metrics.jsonl")
    later = log.flush_later()
    assert not later.done()
    slow.answers.set()
    later.result(20)
    assert [record["step"] for record in read_metrics(run)] == list(range(1, 200))
    log.close()


def test_an_error_of_the_thread_comes_up(run):
    class Full(SlowFolder):
        def write(self, name, data):
            raise OSError("disk full")

    log = MetricsLog(Full(run), 0, ())
    log.add({"step": 1})
    with pytest.raises(OSError, match="disk full"):
        log.flush()
    with pytest.raises(OSError, match="disk full"):
        log.close()


def test_trackers_know_each_key_that_decided_the_run():
    about = {"seed": 1, "decided_by": {"optimizer.lr": 3e-3}}
    assert metrics.flat(about) == {"seed": 1, "optimizer.lr": 3e-3}
