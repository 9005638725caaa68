"""Sweeps on a local ray of two CPUs: every trial ends, whatever becomes of the others, and none is done twice."""

import csv
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from seit_ray.config import Finetune, Pretrain, load
from seit_ray.distributed.resources import num_concurrent, trial_resources
from seit_ray.distributed.tune.sweep_job import run_sweep
from seit_ray.runs.settings import WorkerSettings
from seit_ray.storage import Folder
from seit_ray.studies.trials import read_outcomes
from seit_ray.training.metrics import read_metrics
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.pretrain import pretrain
from seit_ray.verbs.sweep import check, job_of, sweep
from tests.distributed.data.jobs import Interruption
from tests.distributed.tune.sweeps import FINETUNE, PRETRAIN, progress_of, sweep_config
from tests.tiny_dataset import write_dataset

GRID = {"optimizer.weight_decay": [0.05, 1e38], "optimizer.lr": [1e-3, 3e-3]}  # of 1e38 no loss stays finite


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Its uri."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 120, "val": 40}, rows_per_shard=60).uri


@pytest.fixture(scope="module")
def grid(ray_cluster, dataset, tmp_path_factory):
    """(config, folder, rows, progress) of a sweep of four trials, two of which fail; not to be changed."""
    config, states = sweep_config(dataset, tmp_path_factory.mktemp("grid"), space=GRID), []
    rows = sweep(config, progress_of(states))
    return config, Folder(config.output).join("sweep"), rows, states


def table(folder):
    """The lines of trials.csv."""
    return list(csv.DictReader(io.StringIO(folder.read("trials.csv").decode())))


def written(folder):
    """Name -> bytes of everything that trained models and records consist of."""
    return {e.name: folder.read(e.name) for e in folder.list("trials/") if e.name.endswith((".safetensors", ".json"))}


def test_a_grid_on_two_cpus_ends_and_mistakes_are_in_the_table(grid):
    _, folder, rows, states = grid
    lines = table(folder)
    assert [line["status"] for line in lines] == ["finished", "finished", "failed", "failed"]
    assert float(lines[0]["probe_linear_top1"]) >= float(lines[1]["probe_linear_top1"]) > 0.25
    assert {(line["optimizer.weight_decay"], line["optimizer.lr"]) for line in lines} == {
        (decay, lr) for decay in ("0.05", "1e+38") for lr in ("0.001", "0.003")
    }
    assert all("gradients not finite" in line["error"] and not line["probe_linear_top1"] for line in lines[2:])
    assert [line["epoch"] for line in lines] == ["3.0", "3.0", "", ""]
    assert {o.metric for o in read_outcomes(folder) if o.status == "finished"} == {"probe_linear_top1"}
    assert all(float(line["seconds"]) > 0 for line in lines[:2])
    texts = dict(rows)
    assert texts[f"1. {lines[0]['trial']}"].startswith(
        f"{float(lines[0]['probe_linear_top1']):.4f}; weight_decay=0.05 lr=0.00"
    )
    assert texts[f"4. {lines[3]['trial']}"].startswith("failed: loss or gradients not finite")
    assert states[0] == (0, 4, "started")
    assert states[-1][:2] == (4, 4)
    assert [done for done, _, _ in states] == sorted(done for done, _, _ in states)


def test_the_report_shows_every_trial_and_three_pictures(grid):
    _, folder, _, _ = grid
    page = folder.read("report.html").decode()
    assert page.count("<svg") == 3
    for line in table(folder):
        assert line["trial"] in page
    assert "weight_decay" in page
    assert json.loads(folder.read("sweep.run.json"))["config"]["run"] == "sweep"


def test_the_best_config_trains_the_same_model(grid):
    config, folder, _, _ = grid
    best = table(folder)[0]
    again = load(Pretrain, [folder.uri_of("best.yaml")], [])
    assert again.optimizer.lr == float(best["optimizer.lr"])
    assert (again.dataset, again.loop.epochs, again.probe.every_epochs) == (config.dataset, 3, 1)
    pretrain(again)
    run = Folder(config.output).join("sweep-best-pretrain")
    assert read_metrics(run)[-1]["probe_linear_top1"] == float(best["probe_linear_top1"])
    trained = folder.join("trials", best["trial"], "pretrain")
    decided = [json.loads(folder.read("model.json"))["decided_by"] for folder in (run, trained)]
    assert decided[0] == decided[1]
    assert decided[0]["optimizer.lr"] == float(best["optimizer.lr"])
    assert run.read("model.safetensors") == trained.read("model.safetensors")


def test_a_rerun_keeps_what_has_finished_and_tries_again_what_failed(grid):
    config, folder, rows, _ = grid
    before, states = written(folder), []
    assert [row for row in sweep(config, progress_of(states)) if "failed" not in row[1]] == [
        row for row in rows if "failed" not in row[1]
    ]
    assert states[0] == (2, 4, "continued")
    assert folder.exists("sweep.history.jsonl")  # the record is that of the first call
    after = written(folder)
    failed = {line["trial"] for line in table(folder) if line["status"] == "failed"}
    assert len(failed) == 2
    changed = {name.split("/")[1] for name in before if before[name] != after[name]}
    assert changed <= failed


def test_the_plan_counts_trials_and_resources(grid):
    config, _, _, _ = grid
    found = dict(check(config))
    assert found["trials"] == "4 (2 failed, 2 finished in an earlier call)"
    assert found["space: optimizer.lr"] == "choice 0.001, 0.003"
    assert found["a trial"] == "1 CPUs; 2 at a time"
    assert found["metric"] == "probe_linear_top1, highest is best"
    assert found["pretrain: steps"].startswith("9 of 40 samples, 3 epochs")


@pytest.mark.parametrize("name", ["photo.jpg", "study.json", "model.json"])
def test_a_folder_of_others_is_refused_before_anything_is_written(dataset, tmp_path, name):
    config = sweep_config(dataset, tmp_path, space=GRID)
    Folder(tmp_path / "sweep").write(name, b"mine")
    for function in (check, sweep):
        with pytest.raises(ValueError, match=rf"sweep holds {name}, which this program did not write there"):
            function(config)
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == [name]


def test_an_interrupted_sweep_goes_on(ray_cluster, grid, dataset, tmp_path):
    config = sweep_config(dataset, tmp_path, space=GRID)

    def interrupt(phase, done, total, note=""):
        if done:
            raise Interruption

    with pytest.raises(Interruption):
        sweep(config, interrupt)
    job = job_of(config)
    ended = [o for o in read_outcomes(job.folder) if o.status != "running"]
    assert 1 <= len(ended) < 4
    sweep(config)
    drop = ("seconds", "command")  # which names the output
    plain = [[{k: v for k, v in line.items() if k not in drop} for line in table(f)] for f in (job.folder, grid[1])]
    assert plain[0] == plain[1]


def test_a_sweep_without_a_trial_that_finishes_says_why(ray_cluster, dataset, tmp_path):
    config = sweep_config(dataset, tmp_path, space={"optimizer.weight_decay": [1e38]})
    with pytest.raises(
        ValueError, match=r"none of 1 trials finished: loss or gradients not finite .*trials.csv has all errors"
    ):
        sweep(config)
    assert [line["status"] for line in table(Folder(tmp_path).join("sweep"))] == ["failed"]


def test_a_lost_process_is_replaced_and_the_trial_continues(ray_cluster, dataset, tmp_path):
    from tests.distributed.data import dying

    config = sweep_config(dataset, tmp_path, space={"optimizer.lr": [3e-3]})
    job = job_of(config)
    dying_job = dying.job_that_loses_a_process(job, tmp_path / "died")
    (outcome,) = run_sweep(dying_job, ray_cluster)
    assert (tmp_path / "died").exists()
    assert outcome.status == "finished"
    assert outcome.value == run_sweep(job, ray_cluster)[0].value


def test_trials_that_are_behind_are_stopped(ray_cluster, dataset, tmp_path):
    """One at a time: each is compared with those before it."""
    settings = {"loop": PRETRAIN["loop"] | {"epochs": 6}, "probe": {"every_epochs": 0}}
    search = {"searcher": "grid", "scheduler": "asha", "reduction_factor": 2, "max_concurrent": 1}
    keys = {"metric": "val_loss", "search": search, "pretrain": PRETRAIN | settings}
    config = sweep_config(dataset, tmp_path, space={"optimizer.lr": [3e-3, 1e-3, 1e-6, 1e-7]}, **keys)
    sweep(config)
    folder = Folder(tmp_path).join("sweep")
    found = {line["optimizer.lr"]: line for line in table(folder)}
    assert [found[lr]["status"] for lr in ("0.003", "1e-06", "1e-07")] == ["finished", "stopped", "stopped"]
    assert float(found["1e-07"]["epoch"]) < 3
    assert not folder.exists(f"trials/{found['1e-07']['trial']}/pretrain/model.json")
    assert table(folder)[0]["optimizer.lr"] == "0.003"
    assert "optimizer" in load(Pretrain, [folder.uri_of("best.yaml")], []).model_dump()

    states = []  # one more trial is compared with those of the first call; these are not run again
    sweep(
        sweep_config(dataset, tmp_path, space={"optimizer.lr": [3e-3, 1e-3, 1e-6, 1e-7, 1e-8]}, **keys),
        progress_of(states),
    )
    assert states[0] == (4, 5, "continued")
    assert {line["optimizer.lr"]: line["status"] for line in table(folder)}["1e-08"] == "stopped"


def test_a_grace_period_as_long_as_a_trial_is_refused(ray_cluster, dataset, tmp_path):
    config = sweep_config(dataset, tmp_path, "search.scheduler=asha", "search.grace_epochs=3", space=GRID)
    with pytest.raises(ValueError, match="grace_epochs 3 of 3 epochs; expected fewer"):
        check(config)
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_from_a_pre_training(ray_cluster, dataset, tmp_path):
    stages, search = ("pretrain", "finetune"), {"searcher": "random", "num_trials": 2}
    space = {"masking.mask_ratio_mu": {"uniform": [0.4, 0.6]}, "finetune.optimizer.lr": {"loguniform": [1e-3, 1e-2]}}
    config = sweep_config(dataset, tmp_path, stages=list(stages), search=search, space=space, finetune=FINETUNE)
    rows = dict(sweep(config))
    folder = Folder(tmp_path).join("sweep")
    assert rows["metric"] == "val_top1, highest is best"
    best = table(folder)[0]
    assert 0.4 < float(best["pretrain.masking.mask_ratio_mu"]) < 0.6
    again = load(Finetune, [rows["best, for finetune"]], [])
    assert again.init_from == folder.join("trials", best["trial"], "pretrain").uri
    assert load(Pretrain, [rows["best, for pretrain"]], []).masking.mask_ratio_mu == float(
        best["pretrain.masking.mask_ratio_mu"]
    )
    finetune(again)
    assert read_metrics(Folder(tmp_path).join("sweep-best-finetune"))[-1]["val_top1"] == float(best["val_top1"])


def test_fine_tuning_alone_starts_where_it_is_told(grid, dataset, tmp_path):
    start = grid[1].join("trials", table(grid[1])[0]["trial"], "pretrain").uri
    keys = {"stages": ["finetune"], "pretrain": None, "finetune": FINETUNE, "init_from": start}
    config = sweep_config(dataset, tmp_path, space={"label_smoothing": [0.0]}, **keys)
    (stage,) = job_of(config).build({"label_smoothing": 0.0}).stages
    assert stage.arguments["init_from"].uri == start
    assert (stage.arguments["label_smoothing"], stage.arguments["transfer"]) == (0.0, False)
    elsewhere = write_dataset(tmp_path / "other", tokenizer_seed=1).uri
    with pytest.raises(ValueError, match="was made with tokenizer"):
        job_of(sweep_config(elsewhere, tmp_path, space={"label_smoothing": [0.0]}, **keys))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_classes": 0}, "class"),
        ({"sizes": {"train": 20}}, "split 'val'"),
    ],
)
def test_a_dataset_that_cannot_give_the_metric(tmp_path, changes, text):
    dataset = write_dataset(tmp_path / "tokens", **changes).uri
    with pytest.raises(ValueError, match=text):
        job_of(sweep_config(dataset, tmp_path, space=GRID))


def test_relative_paths_mean_the_same_in_a_trial(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(dataset).parent)
    config = sweep_config(Path(dataset).name, "runs", space=GRID)
    arguments = pickle.loads(pickle.dumps(job_of(config))).build({"optimizer.lr": 1e-3}).stages[0].arguments
    monkeypatch.chdir(tmp_path)
    assert arguments["dataset"].uri == dataset
    assert arguments["run"].uri.startswith(str(Path(dataset).parent / "runs" / "sweep" / "trials"))


@pytest.mark.slow
def test_optuna_goes_on_from_the_trials_of_an_earlier_call(ray_cluster, dataset, tmp_path):
    pytest.importorskip("optuna")
    space = {"optimizer.lr": {"loguniform": [1e-4, 1e-2]}, "masking.mask_ratio_mu": [0.4, 0.6]}

    def run(num_trials):
        states = []
        search = {"searcher": "optuna", "num_trials": num_trials}
        sweep(sweep_config(dataset, tmp_path, space=space, search=search), progress_of(states))
        return states, {line["trial"]: line for line in table(Folder(tmp_path).join("sweep"))}

    _, first = run(2)
    states, second = run(4)
    assert states[0] == (2, 4, "continued")
    assert len(first) == 2
    assert len(second) == 4
    assert all(second[name] == line for name, line in first.items())
    assert all(1e-4 <= float(line["optimizer.lr"]) <= 1e-2 for line in second.values())


@pytest.mark.slow
def test_trials_whose_training_has_workers_share_the_cpus(ray_cluster, dataset, tmp_path):
    """Two trials of a worker each on two CPUs; the third waits for one of them and is stopped early."""
    # after two epochs the first is ahead by far: no matter who reports first, it is not stopped
    search = {"searcher": "grid", "scheduler": "asha", "grace_epochs": 2, "reduction_factor": 2}
    settings = {"loop": PRETRAIN["loop"] | {"epochs": 4}, "probe": {"every_epochs": 0}}
    keys = {"metric": "val_loss", "search": search, "pretrain": PRETRAIN | settings, "workers": {"num_workers": 1}}
    config = sweep_config(dataset, tmp_path, space={"optimizer.lr": [3e-3, 1e-7, 1e-8]}, **keys)
    sweep(config)
    lines = table(Folder(tmp_path).join("sweep"))
    found = {line["optimizer.lr"]: line["status"] for line in lines}
    assert found["0.003"] == "finished"
    assert found["1e-08"] == "stopped"
    assert lines[0]["optimizer.lr"] == "0.003"
    assert float(lines[0]["val_loss"]) == min(float(line["val_loss"]) for line in lines)


def test_resources_bound_the_trials_at_a_time(ray_cluster):
    workers = WorkerSettings(num_workers=0, max_failures=0)
    assert num_concurrent(workers, ray_cluster, None) == 2
    assert num_concurrent(workers, ray_cluster, 1) == 1
    assert num_concurrent(workers, ray_cluster, 8) == 2  # a local ray does not grow
    two = replace(workers, num_workers=2)
    assert trial_resources(two, ray_cluster) == {"CPU": 2}
    assert trial_resources(replace(two, gpus_per_worker=0.5), ray_cluster) == {"CPU": 2, "GPU": 1.0}
    assert num_concurrent(two, ray_cluster, None) == 1
    with pytest.raises(ValueError, match="need 3 CPUs of 2 that this machine has; expected no more"):
        num_concurrent(replace(workers, num_workers=3), ray_cluster, None)
