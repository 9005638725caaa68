"""Checkpoints that a thread writes."""

import threading

import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.training import saving
from seit_ray.training.checkpoints import checkpoint_names, load_checkpoint, save_checkpoint
from seit_ray.training.saving import CheckpointWriter


def tensors(step):
    return {"model/x": torch.full((2,), float(step))}


@pytest.fixture
def gate(monkeypatch):
    """Writes wait for it; `started` says that one has begun."""
    opened, started = threading.Event(), threading.Semaphore(0)

    def slow(*arguments):
        started.release()
        assert opened.wait(20)
        save_checkpoint(*arguments)

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    opened.started = started
    return opened


def test_the_caller_goes_on_while_it_is_written(run, gate):
    saved = []
    writer = CheckpointWriter(run, 2, saved.append)
    writer.submit(tensors(1), {"step": 1})
    assert gate.started.acquire(timeout=20)
    assert checkpoint_names(run) == saved == []  # a kill now would leave none
    gate.set()
    writer.close()
    assert saved == [1]
    assert load_checkpoint(run)[1]["step"] == 1


def test_one_at_a_time(run, gate):
    writer = CheckpointWriter(run, 5)
    writer.submit(tensors(1), {"step": 1})
    second = threading.Thread(target=writer.submit, args=(tensors(2), {"step": 2}))
    second.start()
    assert gate.started.acquire(timeout=20)
    assert not gate.started.acquire(timeout=0.2)  # the second waits for the first
    gate.set()
    second.join()
    writer.close()
    assert checkpoint_names(run) == ["step-000000001", "step-000000002"]


@pytest.mark.parametrize("ending", ["submit", "wait", "close"])
def test_errors_come_up(run, monkeypatch, ending):
    def full(folder, name, data):
        raise OSError("no space left")

    monkeypatch.setattr(Folder, "write", full)
    writer = CheckpointWriter(run, 2)
    writer.submit(tensors(1), {"step": 1})
    arguments = (tensors(2), {"step": 2}) if ending == "submit" else ()
    with pytest.raises(OSError, match="no space left"):
        getattr(writer, ending)(*arguments)
    writer.close()


def test_a_failed_write_leaves_the_one_before(run, monkeypatch):
    writer = CheckpointWriter(run, 1)
    writer.submit(tensors(1), {"step": 1})
    writer.wait()
    write = Folder.write

    def full(folder, name, data):
        if name == "checkpoint.json":
            raise OSError("no space left")
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", full)
    writer.submit(tensors(2), {"step": 2})
    with pytest.raises(OSError, match="no space left"):
        writer.close()
    assert load_checkpoint(run)[1]["step"] == 1
