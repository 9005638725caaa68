"""Training workers on nodes that are lost, come and are taken back."""

import json
import sys
from contextlib import nullcontext
from itertools import groupby, pairwise
from types import SimpleNamespace

import pytest
import torch

from seit_ray.distributed.train import train_job
from seit_ray.runs.finetune import finetune as run_finetune
from seit_ray.storage import Folder
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.distributed.train.cluster_runs import LOOP, NUM_SAMPLES, arguments_of
from tests.end_to_end.processes import ROOT, warm_environment
from tests.tiny_dataset import write_dataset
from tests.tiny_trainers import CPU, without_speed
from tests.warm import processes as warm

STEPS = NUM_SAMPLES * LOOP["epochs"] // LOOP["global_batch_size"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": NUM_SAMPLES, "val": 23}).uri


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    """The records of one process that nobody disturbs."""
    run = Folder(tmp_path_factory.mktemp("undisturbed"))
    run_finetune(**arguments_of(dataset, run), world=World(device=CPU.device))
    return [without_speed(record) for record in read_metrics(run)]


def test_a_worker_keeps_to_its_share_of_a_gpu_before_it_takes_any(monkeypatch):
    """Two that start at once would else both see all of its memory free."""
    order, device = [], torch.device("cuda", 0)
    rank = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(train_job.ray.train, "get_context", lambda: rank)
    monkeypatch.setattr(train_job.ray.train.torch, "get_device", lambda: device)
    monkeypatch.setattr(train_job, "look", lambda board: (None, None))
    monkeypatch.setattr(train_job, "preemption_of", lambda: lambda: None)
    monkeypatch.setattr(train_job, "listening", lambda board, **asked: nullcontext("requests"))
    monkeypatch.setattr(train_job, "keep_to_share", lambda *given: order.append(given))
    monkeypatch.setattr(train_job.pkgutil, "resolve_name", lambda name: lambda **given: order.append(name) or {})
    train_job.train_worker({"board": None, "threads": 1, "gpu_share": 0.5, "function": "a:run", "arguments": {}})
    assert order == [(device, 0.5), "a:run"]


def numbers(records):
    """All numbers of records, in one order."""
    return [value for record in records for _, value in sorted(without_speed(record).items())]


@pytest.mark.slow
def test_nodes_come_and_go_and_the_losses_stay(tmp_path, dataset, undisturbed):
    """A lost node, a new one, and a notice that it will be taken back: two workers, one, two, and one."""
    done = warm.run(
        [sys.executable, "-m", "tests.distributed.train.cluster_training", str(tmp_path), dataset],
        cwd=ROOT,
        env=warm_environment(OMP_NUM_THREADS="1"),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert "error" not in outcome, outcome["error"]
    sizes = [entry["world"] for entry in outcome["journal"] if "pid" in entry]
    assert [size for size, _ in groupby(sizes)] == [2, 1, 2, 1]
    steps = [(entry["step"], entry["world"]) for entry in outcome["journal"] if "step" in entry]
    assert {step for step, _ in steps} == set(range(STEPS))
    changes = [(a[0], b[0]) for a, b in pairwise(steps) if a[1] != b[1]]
    (_, after_loss), (before_growth, after_growth), (before_end, after_notice) = changes
    assert after_loss == LOOP["checkpoint_every_steps"]  # the newest checkpoint: there was no time for another
    assert after_growth >= before_growth  # it saved before it grew: no step, or the one under way, was lost
    assert outcome["noticed"] <= after_notice <= before_end  # it saved at the notice, and went on
    found = read_metrics(Folder(tmp_path / "run"))
    assert [record["step"] for record in found] == list(range(1, STEPS + 1))
    assert numbers(found) == pytest.approx(numbers(undisturbed), abs=1e-4)
