"""Training workers: killed, taken away, come back, asked to stop."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest

from seit_ray.storage import Folder
from seit_ray.training import runs
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.distributed.cluster_runs import LOOP, NUM_SAMPLES, arguments_of
from tests.end_to_end.processes import ROOT, environment
from tests.tiny_dataset import write_dataset
from tests.training.tiny_runs import CPU, without_speed

STEPS = NUM_SAMPLES * LOOP["epochs"] // LOOP["global_batch_size"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": NUM_SAMPLES, "val": 23}).uri


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    """The records of one process that nobody disturbs."""
    run = Folder(tmp_path_factory.mktemp("undisturbed"))
    runs.finetune(**arguments_of(dataset, run), world=World(device=CPU.device))
    return [without_speed(record) for record in read_metrics(run)]


def numbers(records):
    """All numbers of records, in one order."""
    return [value for record in records for _, value in sorted(without_speed(record).items())]


@pytest.mark.slow
def test_workers_come_and_go_and_the_losses_stay(tmp_path, dataset, undisturbed):
    """A killed worker, a lost node, a new one: the run goes on with two, one, and two workers."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.cluster_training", str(tmp_path), dataset],
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert "error" not in outcome, outcome["error"]
    sizes = [entry["world"] for entry in outcome["journal"] if "pid" in entry]
    assert sizes[:2] == [2, 2]
    assert sizes[-1] == 2
    assert 1 in sizes
    steps = [(entry["step"], entry["world"]) for entry in outcome["journal"] if "step" in entry]
    assert {step for step, _ in steps} == set(range(STEPS))
    before, after = next((a, b) for a, b in reversed(list(pairwise(steps))) if (a[1], b[1]) == (1, 2))
    assert after[0] >= before[0]  # it saved before it grew: no step, or the one under way, was lost
    found = read_metrics(Folder(tmp_path / "run"))
    assert [record["step"] for record in found] == list(range(1, STEPS + 1))
    assert numbers(found) == pytest.approx(numbers(undisturbed), abs=1e-4)
