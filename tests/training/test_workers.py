"""However a batch is split, over steps of accumulation or over workers, the run is the same."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.training.checkpoints import load_checkpoint
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.tiny_trainers import CPU, comparable, losses, tiny_trainer
from tests.training.workers import CASES, case, cases_of, optimizer_of
from tests.training.workers import main as train_all
from tests.warm import processes as warm

ROOT = Path(__file__).parents[2]
STEPS = {"log_every_steps": 1, "ema_decay": 0.9}  # of which one case takes its targets


@pytest.mark.parametrize(
    ("name", "accum_steps"),
    [
        (name, steps)
        for name in CASES
        for steps in (3, 8, 100)
        if steps == 3 or name in ("supervised", "augmented", "mtm")
    ],
)
def test_accumulation_gives_the_same_losses(tmp_path, name, accum_steps):
    found = []
    for steps in (1, accum_steps):
        run = Folder(tmp_path / str(steps))
        model, objective, _ = case(name, CPU)
        loop = {**STEPS, "accum_steps": steps}
        tiny_trainer(run, model, objective=objective, loop=loop, optimizer=optimizer_of(name)).train()
        found.append(losses(run))
    assert len(found[0]) == 8
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_ranks_together_see_the_global_batch(run, world_size):
    whole = tiny_trainer(run, loop={"global_batch_size": 10}).host_parts(5)
    worlds = [World(rank, world_size, CPU.device) for rank in range(world_size)]
    loop = {"global_batch_size": 10, "max_micro_batch": 2}
    parts = [part for world in worlds for part in tiny_trainer(run, loop=loop, world=world).host_parts(5)]
    assert [n for span, _ in parts for n in range(span.start, span.stop)] == list(range(10))
    assert max(len(batch) for _, batch in parts) <= 2
    assert torch.equal(torch.cat([batch.inputs for _, batch in parts]), whole[0][1].inputs)
    assert torch.equal(torch.cat([batch.labels for _, batch in parts]), whole[0][1].labels)


def test_the_run_is_written_by_the_first_rank_alone(run):
    class Follower(World):
        is_main = False

    trainer = tiny_trainer(run)
    trainer.world = Follower(device=CPU.device)
    assert trainer.train()["step"] == 8
    assert list(run.list()) == []


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    train_all(folder, 1, 0)
    return folder


def without_key_bias(name, value):
    """Attention does not change with the bias of its keys: their gradients are rounding errors, as AdamW steps are."""
    return value.view(3, -1)[[0, 2]] if "qkv.bias" in name and value.ndim else value


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_train_as_one(tmp_path, alone, size):
    """The batch of 9 does not divide, nor does the val split. This process is the first."""
    command = [sys.executable, "-m", "tests.training.workers", str(tmp_path / "runs"), str(size)]
    others = [warm.Popen([*command, str(rank)], cwd=ROOT, stderr=subprocess.PIPE, text=True) for rank in range(1, size)]
    train_all(tmp_path / "runs", size, 0)
    for other in others:
        errors = other.communicate(timeout=240)[1]
        assert other.returncode == 0, errors
    for name in cases_of(size):
        one, several = Folder(alone / name), Folder(tmp_path / "runs" / name)
        numbers = [[v for r in comparable(run) for _, v in sorted(r.items())] for run in (one, several)]
        assert len(read_metrics(one)) == 14
        assert numbers[1] == pytest.approx(numbers[0], abs=1e-5)
        weights = [load_checkpoint(run)[0] for run in (one, several)]
        for key, value in weights[0].items():
            torch.testing.assert_close(
                without_key_bias(key, weights[1][key]), without_key_bias(key, value), atol=1e-4, rtol=1e-3
            )


def test_augmentation_changes_the_losses(alone):
    assert losses(Folder(alone / "augmented")) != pytest.approx(losses(Folder(alone / "supervised")), abs=1e-2)
