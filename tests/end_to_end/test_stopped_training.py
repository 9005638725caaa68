"""SIGTERM to a training: it finishes the step, writes a checkpoint, ends with status 143, and a rerun continues."""

import json
import signal

import pytest

from seit_ray.config import Finetune, load
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names
from seit_ray.training.metrics import read_metrics
from seit_ray.training.throughput import SPEED
from seit_ray.verbs.finetune import finetune
from tests.end_to_end.processes import LOCAL_RAY, signal_when
from tests.tiny_dataset import write_dataset

STEPS_AN_EPOCH = 10
LOOP = (
    "loop.global_batch_size=40",
    "loop.log_every_steps=1",
    "loop.eval_every_epochs=10",
    "loop.checkpoint_every_epochs=40",
    "loop.checkpoint_every_steps=20",
    "loop.ema_decay=0.9",
    "loop.keep_best=val_top1",
    "model.size=nano",
    "model.width=32",
    "model.depth=2",
    "model.num_heads=2",
    "model.inputs=codebook",
    "augment.cutmix_alpha=1",
    "augment.color_adapt_prob=0.3",
    "optimizer.lr=3e-3",
    "optimizer.warmup_epochs=2",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 400, "val": 50}, rows_per_shard=150).uri


def records(run):
    """What a run has written down, without its speed."""
    return [{k: v for k, v in record.items() if k not in SPEED} for record in read_metrics(run)]


# workers hear of the signal a second later: they need steps left by then
@pytest.mark.parametrize(("num_workers", "epochs"), [(0, 20), pytest.param(2, 40, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(dataset, tmp_path, num_workers, epochs):
    keys, steps = [f"dataset={dataset}", "run=classifier", f"loop.epochs={epochs}", *LOOP], STEPS_AN_EPOCH * epochs
    if num_workers:  # dropout is drawn by rank; without it, two workers train as one
        keys.append("model.drop_path=0")
    workers = [f"workers.num_workers={num_workers}", *(LOCAL_RAY if num_workers else ())]
    run, undisturbed = (Folder(tmp_path / name / "classifier") for name in ("stopped", "undisturbed"))
    arguments = [*keys, *workers, f"output={tmp_path / 'stopped'}"]
    status, errors = signal_when(signal.SIGTERM, lambda: bool(checkpoint_names(run)), "finetune", *arguments)
    assert status == 143, errors
    newest = int(checkpoint_names(run)[-1].removeprefix("step-"))
    assert 20 <= newest < steps
    assert records(run)[-1]["step"] == newest  # it saved where it was
    assert not run.exists("model.json")

    for place in ("stopped", "undisturbed"):  # here, even where it had two workers: any number may go on
        finetune(load(Finetune, [], [*keys, "workers.num_workers=0", f"output={tmp_path / place}"]))
    found, expected = records(run), records(undisturbed)
    assert [record["step"] for record in found] == list(range(1, steps + 1))
    if num_workers == 0:
        assert found == expected
        assert run.read("best.safetensors") == undisturbed.read("best.safetensors")
        assert run.read("ema.safetensors") == undisturbed.read("ema.safetensors")
        assert json.loads(run.read("model.json"))["best"] == json.loads(undisturbed.read("model.json"))["best"]
    else:  # two workers add up in another order than one
        first = [record["train_loss"] for record in expected[:100]]
        assert [record["train_loss"] for record in found[:100]] == pytest.approx(first, abs=1e-3)
