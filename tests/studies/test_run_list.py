"""Runs told from their files alone: what they are, how far, and whether they live."""

import json

import pytest

from seit_ray.storage import Folder
from seit_ray.studies import run_list
from seit_ray.studies.run_files import MARKERS, find_runs
from seit_ray.studies.run_list import list_runs, mean_spacing_s, read_run
from tests.studies.made_runs import (
    BATCH,
    NOW,
    metrics,
    record,
    write,
    write_checkpoint,
    write_model,
    write_run,
    write_trial,
)

DAY_S = 86_400.0


def listed(path, now=NOW):
    """Name -> run."""
    return {run.name: run for run in list_runs(Folder(path), now=now)}


def only(path, now=NOW):
    """The one run of a folder."""
    (run,) = listed(path, now).values()
    return run


def test_what_a_run_tells(tmp_path):
    write_run(tmp_path / "a", model={"size": "nano"}, age_s=12)
    write_checkpoint(tmp_path / "a", 20, age_s=13)
    write_checkpoint(tmp_path / "a", 30, age_s=12)
    run = only(tmp_path)
    assert (run.name, run.uri, run.verb) == ("a", str(tmp_path / "a"), "finetune")
    assert (run.state, run.note, run.age_s, run.modified) == ("running", "", 12.0, NOW - 12)
    assert (run.step, run.steps, run.epoch, run.epochs) == (40, 100, 2.0, 20)
    assert run.metrics == {"train_loss": 0.25, "samples_per_s": 64.0, "val_top1": 0.5, "val_loss": 0.5}
    assert run.config["model"] == {"size": "nano"}
    assert run.command[1:] == ("finetune", "dataset=tokens", "run=a b")


def test_the_last_value_of_each_metric_counts(tmp_path):
    write(tmp_path / "a" / "metrics.jsonl", metrics(2, top1=0.25) + '{"step": 30, "train_loss": NaN, "ok": true}\n')
    run = only(tmp_path)
    assert run.metrics["val_top1"] == 0.25
    assert run.metrics["train_loss"] != run.metrics["train_loss"]  # it has diverged, and is not told otherwise
    assert "ok" not in run.metrics
    assert (run.step, run.verb) == (30, "?")


def test_runs_at_any_depth_by_name(tmp_path):
    for name in ("b", "a", "more/x/y", "_hidden", "more/.x"):
        write_run(tmp_path / name)
    write(tmp_path / "photos" / "cat" / "1.jpg", "x")
    assert list(listed(tmp_path)) == ["a", "b", "more/x/y"]
    assert list(listed(tmp_path / "a")) == ["."]


def test_more_runs_than_are_fetched_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(run_list, "TOGETHER", 3)
    for i in range(8):
        write_run(tmp_path / f"{i}", top1=i / 10)
    assert [run.metrics["val_top1"] for run in listed(tmp_path).values()] == [i / 10 for i in range(8)]


def test_a_training_without_a_sign_of_life_has_stopped(tmp_path):
    write_run(tmp_path / "a", age_s=121)
    assert (only(tmp_path).state, only(tmp_path).note) == ("stopped", "no checkpoint to continue from")
    write_checkpoint(tmp_path / "a", 40, age_s=121)
    assert (only(tmp_path).state, only(tmp_path).note) == ("stopped", "")
    write(tmp_path / "a" / "tensorboard" / "events", "x", age_s=100)
    assert only(tmp_path).state == "running"


def test_silence_is_measured_by_how_often_metrics_come(tmp_path):
    write_run(tmp_path / "a", every=200, age_s=590)  # a record each 200 s
    assert only(tmp_path).state == "running"
    assert only(tmp_path, NOW + 11).state == "stopped"


def test_spacing_needs_steps_and_rates():
    records = [{"step": 10, "samples_per_s": 32.0}, {"step": 30, "samples_per_s": 64.0}]
    assert mean_spacing_s(records, BATCH) == 20.0
    assert mean_spacing_s([{"step": 10}, {"step": 20, "samples_per_s": 0.0}], BATCH) == 0.0
    assert mean_spacing_s([], BATCH) == 0.0


def test_a_checkpoint_knows_the_batch_size_where_there_is_no_record(tmp_path):
    write(tmp_path / "a" / "metrics.jsonl", metrics(every=200), age_s=590)
    assert only(tmp_path).state == "stopped"
    write_checkpoint(tmp_path / "a", 800, global_batch_size=BATCH, age_s=590)
    assert (only(tmp_path).state, only(tmp_path).verb) == ("running", "classifier")


def test_a_lock_that_is_renewed_is_a_sign_of_life(tmp_path):
    write_run(tmp_path / "a", age_s=DAY_S)
    write(tmp_path / "a" / "_lock.json", {"time": NOW - 5}, age_s=5)
    assert (only(tmp_path).state, only(tmp_path).age_s) == ("running", 5.0)
    write(tmp_path / "a" / "_lock.json", {"time": float("inf")})  # whatever it says, time goes on
    assert only(tmp_path).age_s == 0.0


def test_a_clock_that_is_behind_does_no_harm(tmp_path):
    write_run(tmp_path / "a")
    assert (only(tmp_path, NOW - 30).state, only(tmp_path, NOW - 30).age_s) == ("running", 0.0)


def test_a_finished_run_is_done_however_old(tmp_path):
    write_run(tmp_path / "a", age_s=DAY_S)
    write_model(tmp_path / "a", age_s=DAY_S, val_top1=0.75)
    run = only(tmp_path)
    assert (run.state, run.metrics["val_top1"], run.step) == ("done", 0.75, 40)


def test_imported_weights_are_a_run(tmp_path):
    write(tmp_path / "a" / "model.json", {"kind": "mtm", "metrics": {}})
    assert (only(tmp_path).state, only(tmp_path).verb, only(tmp_path).metrics) == ("done", "mtm", {})


@pytest.mark.parametrize("verb", MARKERS)
def test_the_marker_of_each_verb(tmp_path, verb):
    write(tmp_path / "a" / f"{verb}.run.json", record(verb), age_s=2)
    marker = MARKERS[verb]
    if marker:
        assert only(tmp_path).state == "running"
        write(tmp_path / "a" / marker, "x", age_s=1)
    assert (only(tmp_path).state, only(tmp_path).verb) == ("done", verb)


def test_a_sweep_that_is_continued_has_an_old_report(tmp_path):
    write(tmp_path / "report.html", "x", age_s=DAY_S)
    write(tmp_path / "sweep.run.json", record("sweep"), age_s=DAY_S / 2)
    assert only(tmp_path).state == "stopped"


def test_a_run_that_holds_predictions_is_still_a_run(tmp_path):
    write_run(tmp_path / "a")
    write(tmp_path / "a" / "predict.run.json", record("predict"))
    assert (only(tmp_path).verb, only(tmp_path).state) == ("finetune", "running")


def test_a_traceback_behind_the_last_metrics_is_a_failure(tmp_path):
    write_run(tmp_path / "a", age_s=10)
    write(tmp_path / "a" / "evaluate.error.txt", "KeyError: 1\n", age_s=9)  # of another verb
    assert only(tmp_path).state == "running"
    write(tmp_path / "a" / "finetune.error.txt", "Traceback ...\n  x\nRuntimeError: out of memory\n\n", age_s=9)
    assert (only(tmp_path).state, only(tmp_path).note) == ("failed", "RuntimeError: out of memory")
    write(tmp_path / "a" / "finetune.run.json", record(), age_s=8)  # begun again
    assert only(tmp_path).state == "running"
    write(tmp_path / "a" / "finetune.error.txt", "ValueError: x", age_s=7)
    assert only(tmp_path).state == "failed"
    write(tmp_path / "a" / "finetune.history.jsonl", json.dumps(record()) + "\n", age_s=6)  # and once more
    assert only(tmp_path).state == "running"
    write(tmp_path / "a" / "finetune.error.txt", "ValueError: x", age_s=5)
    write_model(tmp_path / "a", age_s=20)
    assert only(tmp_path).state == "done"


def test_trials_of_a_sweep(tmp_path):
    sweep = tmp_path / "s"
    write(sweep / "sweep.run.json", record("sweep"), age_s=DAY_S)
    write_trial(sweep, "good", status="finished", age_s=50, **{"optimizer.lr": 0.1})
    write_model(sweep / "trials" / "good" / "finetune", age_s=50)
    write_trial(sweep, "bad", status="failed", error="ValueError: no", age_s=DAY_S)
    write_trial(sweep, "slow", status="stopped", age_s=40)
    write_trial(sweep, "late", age_s=30)
    runs = {name.removeprefix("s/trials/"): run for name, run in listed(tmp_path).items()}
    states = {name: (run.verb, run.state, run.note) for name, run in runs.items()}
    assert states == {
        "s": ("sweep", "running", ""),
        "good/finetune": ("classifier", "done", ""),
        "bad/finetune": ("finetune", "failed", "ValueError: no"),
        "slow/finetune": ("finetune", "stopped", "by the scheduler of its sweep"),
        "late/finetune": ("finetune", "running", ""),
    }
    assert runs["s"].age_s == 30  # a sweep lives in its trials
    assert runs["good/finetune"].config == {"optimizer.lr": 0.1}


@pytest.mark.parametrize("place", ["s/trials/good/finetune", "s/trials/good"])
def test_a_trial_that_is_named_itself_knows_its_settings(tmp_path, place):
    write_trial(tmp_path / "s", "good", status="stopped", **{"optimizer.lr": 0.1})
    run = read_run(Folder(tmp_path / place), now=NOW)
    assert (run.state, run.verb, run.config) == ("stopped", "finetune", {"optimizer.lr": 0.1})


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("finetune.run.json", '{"verb": "fine', "finetune.run.json: Unterminated string"),
        ("finetune.run.json", "[1, 2]", "finetune.run.json: holds a list; expected a mapping"),
        ("finetune.run.json", "", "finetune.run.json: Expecting value"),
        ("metrics.jsonl", metrics(2) + '{"step": 30, "ep', "metrics.jsonl line 3: Unterminated string"),
        ("metrics.jsonl", metrics(2) + "3\n", "metrics.jsonl line 3: holds a int"),
        ("metrics.jsonl", "[" * 100_000, "metrics.jsonl line 1: maximum recursion depth"),
        ("model.json", "\x00\x01", "model.json: Expecting value"),
        ("checkpoints/step-000000040/checkpoint.json", "{", "checkpoint.json: Expecting property name"),
        ("_lock.json", "{", "_lock.json: Expecting property name"),
    ],
)
def test_a_file_that_is_half_written_is_told_and_ends_nothing(tmp_path, name, text, told):
    for run in ("a", "b", "c"):
        write_run(tmp_path / run)
    write(tmp_path / "b" / name, text)
    runs = listed(tmp_path)
    assert [run.state for run in runs.values()] == ["running", "unreadable", "running"]
    assert told in runs["b"].note
    if name != "metrics.jsonl":
        assert runs["b"].metrics["val_top1"] == 0.5  # what can be read is told
    elif text.startswith("{"):
        assert runs["b"].step == 20


@pytest.mark.parametrize("content", [{}, {"config": 3}, {"config": {"loop": []}, "command": "x"}])
def test_a_record_of_another_shape(tmp_path, content):
    write_run(tmp_path / "a")
    write(tmp_path / "a" / "finetune.run.json", content, age_s=60)
    assert (only(tmp_path).state, only(tmp_path).command, only(tmp_path).epochs) == ("running", (), None)


def test_bytes_that_are_no_text(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "a" / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    assert only(tmp_path).state == "unreadable"


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(run_list, "MAX_BYTES", 300)
    write_run(tmp_path / "a", num=40)
    assert only(tmp_path).state == "unreadable"
    assert "metrics.jsonl" in only(tmp_path).note


def test_what_went_away_since_it_was_listed_is_left_out(tmp_path):
    write_run(tmp_path / "a")
    write_checkpoint(tmp_path / "a", 40)
    folder = Folder(tmp_path)
    places = find_runs(folder)
    (tmp_path / "a" / "checkpoints" / "step-000000040" / "checkpoint.json").unlink()
    (run,) = run_list.read_runs(folder, places, NOW)
    assert (run.state, run.steps) == ("running", None)


def test_a_folder_without_runs(tmp_path):
    write(tmp_path / "photos" / "1.jpg", "x")
    assert listed(tmp_path) == {}
    with pytest.raises(ValueError, match=r"nowhere does not exist; expected"):
        listed(tmp_path / "nowhere")


def test_a_run_must_be_one(tmp_path):
    write_run(tmp_path / "more" / "a")
    assert read_run(Folder(tmp_path), now=NOW).name == "more/a"
    write_run(tmp_path / "more" / "b")
    with pytest.raises(ValueError, match=r"is no run: 2 runs are below it; expected a folder with metrics.jsonl"):
        read_run(Folder(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is no run: no verb has written there"):
        read_run(Folder(tmp_path / "empty"))


def test_on_s3_as_on_disk(tmp_path, s3_server):
    write_run(tmp_path / "a", top1=0.25)
    write_checkpoint(tmp_path / "a", 30)
    write_model(tmp_path / "b")
    write_trial(tmp_path / "s", "t", **{"optimizer.lr": 0.1})
    remote = Folder(f"s3://{s3_server.create_bucket('run-list')}/runs", **s3_server.credentials)
    for entry in Folder(tmp_path).list():
        remote.write(entry.name, Folder(tmp_path).read(entry.name))
    here, there = listed(tmp_path), {run.name: run for run in list_runs(remote)}
    assert list(there) == list(here) == ["a", "b", "s/trials/t/finetune"]
    for name, run in there.items():
        assert (run.state, run.metrics, run.config) == (here[name].state, here[name].metrics, here[name].config)
        assert run.age_s < 60
    trial = read_run(remote.join("s", "trials", "t", "finetune"))
    assert (trial.uri, trial.config) == (f"{remote.uri}/s/trials/t/finetune", {"optimizer.lr": 0.1})
