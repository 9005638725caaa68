"""kill -9 of the driver of a training run; the same command then ends in the numbers of an undisturbed run."""

import json
import re

import pytest

from seit_ray.config import Finetune, Pretrain, load
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names
from seit_ray.training.throughput import SPEED
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.pretrain import pretrain
from tests.end_to_end.processes import LOCAL_RAY, kill_when, succeed
from tests.tiny_dataset import write_dataset

EPOCHS, STEPS_AN_EPOCH, BATCH = 20, 10, 40
LOOP = (
    f"loop.epochs={EPOCHS}",
    f"loop.global_batch_size={BATCH}",
    "loop.log_every_steps=1",
    "loop.eval_every_epochs=5",
    "loop.seed=3",
    "model.size=nano",
    "model.width=32",
    "model.depth=2",
    "model.num_heads=2",
    "model.dropout=0.2",
    "optimizer.lr=3e-3",
    "optimizer.warmup_epochs=2",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    sizes = {"train": STEPS_AN_EPOCH * BATCH, "val": 50}
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes=sizes, rows_per_shard=150).uri


@pytest.fixture(scope="module")
def pretraining(ray_cluster, dataset, tmp_path_factory):
    """The keys of a pre-training with two workers, and the folder of its undisturbed run."""
    keys = [f"dataset={dataset}", "run=mtm", "workers.num_workers=2", *LOOP]
    output = tmp_path_factory.mktemp("undisturbed")
    pretrain(load(Pretrain, [], [*keys, f"output={output}"]))
    return keys, Folder(output / "mtm")


def numbers(run):
    """All records of metrics.jsonl and model.json, without what depends on the clock."""
    records = [json.loads(line) for line in run.read("metrics.jsonl").decode().splitlines()]
    about = json.loads(run.read("model.json"))
    for record in (*records, about["metrics"]):
        assert all(record.pop(name) >= 0 for name in SPEED)
    return records, about


def check_killed_run(verb, keys, undisturbed, output, *more):
    """Kill a verb behind its first checkpoint, run it again, and compare with the undisturbed run."""
    run = Folder(output).join(undisturbed.uri.rpartition("/")[2])
    arguments = [*keys, f"output={output}", *more]
    kill_when(lambda: bool(checkpoint_names(run)), verb, *arguments, workers_too=True)
    newest = int(checkpoint_names(run)[-1].removeprefix("step-"))
    assert 0 < newest < EPOCHS * STEPS_AN_EPOCH
    assert not run.exists("model.json")

    rerun = succeed(verb, *arguments)
    first = re.search(rf"(\d+)/{EPOCHS * STEPS_AN_EPOCH} ", rerun.stderr)
    assert int(first[1]) >= newest  # it did not begin again
    found, expected = numbers(run), numbers(undisturbed)
    assert [record["step"] for record in found[0]] == list(range(1, EPOCHS * STEPS_AN_EPOCH + 1))
    assert found == expected
    assert run.read("model.safetensors") == undisturbed.read("model.safetensors")
    assert len(checkpoint_names(run)) == 2
    return found[0]


@pytest.mark.slow
def test_pretraining_with_two_workers(pretraining, tmp_path):
    keys, undisturbed = pretraining
    records = check_killed_run("pretrain", keys, undisturbed, tmp_path, *LOCAL_RAY)
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert "val_masked_accuracy" in records[-1]


def test_finetuning_in_one_process(pretraining, dataset, tmp_path):
    keys = [
        f"dataset={dataset}",
        f"init_from={pretraining[1].uri}",
        "run=classifier",
        "workers.num_workers=0",
        *LOOP,
        "model.drop_path=0.2",
        "loop.ema_decay=0.9",
        "loop.accum_steps=2",
        "optimizer.clip_grad=1",
    ]
    finetune(load(Finetune, [], [*keys, f"output={tmp_path / 'undisturbed'}"]))
    undisturbed = Folder(tmp_path / "undisturbed" / "classifier")
    records = check_killed_run("finetune", keys, undisturbed, tmp_path / "killed")
    assert records[-1]["val_top1"] > 0.5  # of four classes
    assert "ema_val_top1" in records[-1]
