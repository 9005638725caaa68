"""However a batch is split, over steps of accumulation or over workers, the run is the same."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import load_checkpoint
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.training.tiny_runs import CPU, comparable, losses, tiny_classifier, tiny_masked, tiny_trainer
from tests.training.workers import main as train_both

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("accum_steps", [3, 4, 16, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_accumulation_gives_the_same_losses(tmp_path, accum_steps, masked):
    found = []
    for steps in (1, accum_steps):
        run = Folder(tmp_path / str(steps))
        tiny_trainer(
            run,
            tiny_masked() if masked else tiny_classifier(),
            objective=MTMObjective() if masked else SupervisedObjective(label_smoothing=0.1),
            loop={"accum_steps": steps, "log_every_steps": 1},
        ).train()
        found.append(losses(run))
    assert len(found[0]) == 8
    assert found[1] == pytest.approx(found[0], abs=1e-5)


def test_one_process_of_several_would_see_its_own_samples(run):
    seen = []

    class Recorder(SupervisedObjective):
        def loss(self, model, batch, step_rng):
            seen.append((batch.labels.tolist(), step_rng.rows.tolist()))
            return super().loss(model, batch, step_rng)

    whole = tiny_trainer(run, objective=Recorder(), loop={"global_batch_size": 10})
    whole.step(whole.model, 5)
    for rank in range(3):
        world = World(rank, 3, CPU.device)
        part = tiny_trainer(run, objective=Recorder(), loop={"global_batch_size": 10}, world=world)
        part.step(part.model, 5)
    labels, rows = zip(*seen, strict=True)
    assert rows[0] == list(range(10))
    assert list(itertools.chain(*rows[1:])) == rows[0]
    assert list(itertools.chain(*labels[1:])) == labels[0]


def test_the_run_is_written_by_the_first_rank_alone(run):
    class Follower(World):
        is_main = False

    trainer = tiny_trainer(run)
    trainer.world = Follower(device=CPU.device)
    assert trainer.train()["step"] == 8
    assert list(run.list()) == []


def test_two_processes_train_as_one(tmp_path):
    """The batch of 9 does not divide: one of them has a row more. This process is the first of the two."""
    command = [sys.executable, "-m", "tests.training.workers", str(tmp_path / "two"), "2", "1"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
        train_both(tmp_path / "one", 1, 0)
        train_both(tmp_path / "two", 2, 0)
        errors = second.communicate(timeout=60)[1]
    assert second.returncode == 0, errors
    for objective in ("supervised", "mtm"):
        one, two = (Folder(tmp_path / name / objective) for name in ("one", "two"))
        numbers = [[v for r in comparable(run) for _, v in sorted(r.items())] for run in (one, two)]
        assert len(read_metrics(one)) == 14
        assert numbers[1] == pytest.approx(numbers[0], abs=1e-5)
        weights = [load_checkpoint(run)[0] for run in (one, two)]
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[1][name], value, atol=1e-4, rtol=1e-3)
