"""Runs for tests, as files written by hand with times that are chosen."""

import json
import os

NOW = 1_700_000_000.0  # seconds UTC
BATCH, RATE = 64, 64.0  # samples a step, samples/s


def write(path, content, *, age_s=0.0):
    """A file of text, or of a value as JSON, that changed so long before NOW."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(path, (NOW - age_s, NOW - age_s))


def record(verb="finetune", **config):
    """<verb>.run.json."""
    loop = {"epochs": 20, "global_batch_size": BATCH}
    words = ["/opt/bin/seit-ray", verb, "dataset=tokens", "run=a b"]
    return {"verb": verb, "command": words, "config": {"dataset": "tokens", "loop": loop, **config}}


def metrics(num=4, *, every=10, top1=0.5):
    """metrics.jsonl of so many records; the last one is of an evaluation."""
    records = [
        {"step": every * i, "epoch": i / 2, "train_loss": 1 / i, "samples_per_s": RATE} for i in range(1, num + 1)
    ]
    records[-1] |= {"val_top1": top1, "val_loss": 1 - top1}
    return "".join(json.dumps(values) + "\n" for values in records)


def write_run(path, *, verb="finetune", top1=0.5, num=4, every=10, age_s=0.0, **config):
    """A run that was recorded an hour before it wrote its metrics."""
    write(path / f"{verb}.run.json", record(verb, **config), age_s=age_s + 3600)
    write(path / "metrics.jsonl", metrics(num, every=every, top1=top1), age_s=age_s)


def write_checkpoint(path, step, *, steps=100, age_s=0.0, **about):
    """A checkpoint without its tensors."""
    values = {"kind": "classifier", "step": step, "steps": steps, **about}
    write(path / "checkpoints" / f"step-{step:09d}" / "checkpoint.json", values, age_s=age_s)


def write_model(path, *, age_s=0.0, **figures):
    """The marker of a finished training."""
    write(path / "model.json", {"kind": "classifier", "metrics": {"step": 40, "epoch": 2.0, **figures}}, age_s=age_s)


def write_trial(sweep, name, *, status="running", error=None, stage="finetune", num=2, age_s=0.0, **settings):
    """A trial of a sweep with one stage."""
    outcome = {"name": name, "settings": settings, "status": status, "error": error}
    write(sweep / "trials" / name / "trial.json", outcome, age_s=age_s)
    write(sweep / "trials" / name / stage / "metrics.jsonl", metrics(num), age_s=age_s)
