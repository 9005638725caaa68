"""kill -9 of a sweep with all its processes; the same command then ends in the table of an undisturbed sweep."""

import csv
import io
import json

import pytest

from seit_ray.config import Sweep, load
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names
from seit_ray.verbs.sweep import sweep
from tests.end_to_end.processes import LOCAL_RAY, kill_when, succeed
from tests.tiny_dataset import write_dataset

KEYS = (
    "run=sweep",
    "space.optimizer.lr=[1e-3, 3e-3]",
    "space.masking.mask_ratio_mu=[0.45, 0.6]",
    "search.searcher=grid",
    "pretrain.loop={epochs: 12, global_batch_size: 40, log_every_steps: 1}",
    "pretrain.model={size: nano, width: 32, depth: 2, num_heads: 2}",
    "pretrain.optimizer.warmup_epochs=1",
    *LOCAL_RAY,
)


def table(folder):
    """trials.csv without what depends on the clock or names the output."""
    lines = csv.DictReader(io.StringIO(folder.read("trials.csv").decode()))
    return [{k: v for k, v in line.items() if k not in ("seconds", "command")} for line in lines]


def runs(folder):
    """The runs of all trials that have begun."""
    return [folder.join("trials", name, "pretrain") for name in folder.join("trials").list_folders()]


@pytest.mark.slow
def test_a_killed_sweep_goes_on(ray_cluster, tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 400, "val": 50}, rows_per_shard=150).uri
    places = {name: Folder(tmp_path / name).join("sweep") for name in ("undisturbed", "killed")}
    arguments = {name: [f"dataset={dataset}", f"output={tmp_path / name}", *KEYS] for name in places}
    killed = places["killed"]

    def is_midway():
        """One trial has ended, and another one has a checkpoint but has not."""
        states = [len(checkpoint_names(run)) and (run.exists("model.json") + 1) for run in runs(killed)]
        return {1, 2} <= set(states)

    kill_when(is_midway, "sweep", *arguments["killed"], workers_too=True)
    ended = {run.uri: run.read("model.json") for run in runs(killed) if run.exists("model.json")}
    midway = [run for run in runs(killed) if checkpoint_names(run) and not run.exists("model.json")]
    newest = {run.uri: checkpoint_names(run)[-1] for run in midway}
    assert 1 <= len(ended) < 4
    assert not killed.exists("trials.csv")

    done = succeed("sweep", *arguments["killed"])
    sweep(load(Sweep, [], arguments["undisturbed"]))
    assert table(killed) == table(places["undisturbed"])
    assert [line["status"] for line in table(killed)] == ["finished"] * 4
    assert "4/4" in done.stderr
    for run in runs(killed):
        twin = places["undisturbed"].join("trials", run.uri.split("/")[-2], "pretrain")
        assert run.read("model.safetensors") == twin.read("model.safetensors")
    assert all(json.loads(Folder(uri).read("model.json")) == json.loads(before) for uri, before in ended.items())
    assert all(int(name.removeprefix("step-")) > 0 for name in newest.values())
