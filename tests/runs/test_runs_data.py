"""Runs whose data do not fit into memory, and what runs leave beside the last weights."""

import json
from dataclasses import replace

import pytest

from seit_ray.models.exports import import_model
from seit_ray.runs import train
from seit_ray.runs.evaluate_tokens import evaluate_tokens
from seit_ray.storage import Folder
from seit_ray.training.metrics import read_metrics
from tests.runs.test_runs import LOOP, finetune, pretrain
from tests.tiny_dataset import write_dataset
from tests.tiny_trainers import CPU, comparable
from tests.training.test_resume import Interrupted, stop_at

ROW_BYTES = 2 * 16 + 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A labelled dataset of 64 + 24 samples in shards of 10."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 64, "val": 24})


def streamed(rows):
    """A loop with memory for so many rows of each split."""
    return replace(LOOP, memory_gib=rows * ROW_BYTES / 2**30, log_every_steps=1)


def test_a_streamed_run_sees_what_its_memory_shuffles(dataset, tmp_path):
    """Memory for less than the split: a stream; its buffer, half of that, decides the order and nothing else."""
    whole, parts = (Folder(tmp_path / name) for name in ("whole", "parts"))
    finetune(dataset, whole, loop=replace(LOOP, log_every_steps=1))
    finetune(dataset, parts, loop=streamed(40))
    about = [json.loads(run.read("first_batch.json")) for run in (whole, parts)]
    assert "in memory" in about[0]["data"]
    assert "streamed" in about[1]["data"]
    assert sorted(about[0]["samples"]) != sorted(about[1]["samples"])
    found = [read_metrics(run) for run in (whole, parts)]
    assert [record["step"] for record in found[0]] == [record["step"] for record in found[1]] == list(range(1, 9))
    assert found[1][-1]["train_loss"] < found[1][0]["train_loss"]


def test_pretraining_streams_too(dataset, tmp_path):
    metrics = pretrain(dataset, Folder(tmp_path / "run"), loop=streamed(30))
    assert 0 < metrics["val_loss"] < 4


def test_a_killed_stream_goes_on_in_its_order_with_more_memory(dataset, tmp_path, monkeypatch):
    whole, broken = (Folder(tmp_path / name) for name in ("whole", "broken"))
    finetune(dataset, whole, loop=streamed(40))
    real = train.Trainer

    def dying(**settings):
        return real(**{**settings, "on_progress": stop_at(5)})

    monkeypatch.setattr(train, "Trainer", dying)
    with pytest.raises(Interrupted):
        finetune(dataset, broken, loop=streamed(40))
    monkeypatch.undo()
    finetune(dataset, broken, loop=replace(LOOP, log_every_steps=1))  # all of it fits now
    assert comparable(broken) == comparable(whole)


def test_the_best_weights_are_exported_and_evaluated(dataset, tmp_path):
    run = Folder(tmp_path / "run")
    finetune(dataset, run, loop=replace(LOOP, epochs=4, keep_best="val_loss"))
    best = json.loads(run.read("model.json"))["best"]
    evaluations = {record["step"]: record["val_loss"] for record in read_metrics(run) if "val_loss" in record}
    assert best == {"metric": "val_loss", "value": min(evaluations.values()), "step": best["step"]}
    assert evaluations[best["step"]] == best["value"]
    model, _ = import_model(run, "classifier", "best")
    assert not model.training
    found = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=7, world=CPU, weights="best")
    assert found["loss"] == pytest.approx(best["value"], rel=1e-5)


def test_a_run_shows_its_first_batch(dataset, tmp_path):
    run = Folder(tmp_path / "run")
    finetune(dataset, run)
    assert run.read("first_batch.png").startswith(b"\x89PNG")
    assert json.loads(run.read("first_batch.json"))["pictures"] == ["stored", "seen"]
