"""seit-ray runs, as a user meets it."""

import re
import time

import pytest

from seit_ray.storage import Folder
from seit_ray.verbs.command.main import main
from tests.studies.made_runs import NOW, metrics, record, write, write_checkpoint, write_model, write_run, write_trial
from tests.verbs.command.test_main import imported, mistake, python

HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def at_that_time(monkeypatch):
    """The clock stands where the files were made."""
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.fixture
def runs(tmp_path):
    """Five runs, one of each state."""
    write_run(tmp_path / "done", top1=0.75, age_s=HOUR_S, optimizer={"lr": 0.001})
    write_model(tmp_path / "done", age_s=HOUR_S, val_top1=0.75)
    write_run(tmp_path / "alive", top1=0.5, age_s=12, optimizer={"lr": 0.003}, model={"size": "nano"})
    write_checkpoint(tmp_path / "alive", 40, age_s=12)
    write_run(tmp_path / "gone", top1=0.875, age_s=2 * HOUR_S)
    write_run(tmp_path / "broken", age_s=HOUR_S)
    write(tmp_path / "broken" / "metrics.jsonl", metrics(1) + "{", age_s=HOUR_S)
    write(tmp_path / "fault" / "pretrain.run.json", record("pretrain"), age_s=HOUR_S)
    write(tmp_path / "fault" / "pretrain.error.txt", "Traceback\nRuntimeError: caf\u00e9\n", age_s=HOUR_S)
    return tmp_path


def told(capsys, *arguments):
    """The lines that a command prints."""
    main(["runs", *map(str, arguments)])
    return capsys.readouterr().out.splitlines()


def cells(line):
    """What stands in the columns of a line."""
    return re.split(r"\s{2,}", line)


def test_a_line_for_every_run(capsys, runs):
    title, rule, *lines = told(capsys, runs)
    assert title == f"{runs}: 5 runs, 1 running, 1 unreadable, 1 done, 1 failed, 1 stopped"
    assert set(rule) == {"-"}
    assert cells(lines[0]) == ["run", "verb", "state", "at", "val_top1", "val_loss", "train_loss", "changed (UTC)"]
    assert lines[0].index("state") == lines[1].index("running")  # columns are aligned
    row = ["alive", "finetune", "running, 12 s ago", "step 40/100", "0.5", "0.5", "0.25", "2023-11-14 22:13:08"]
    assert cells(lines[1]) == row
    assert cells(lines[3])[:5] == ["done", "finetune", "done", "epoch 2/20", "0.75"]
    assert cells(lines[4])[:3] == ["fault", "pretrain", "failed"]
    assert cells(lines[5])[:3] == ["gone", "finetune", "stopped, 2 h 00 min ago"]
    assert lines[6:] == [
        "broken unreadable: metrics.jsonl line 2: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        "fault failed: RuntimeError: caf\\xe9",
        "gone stopped: no checkpoint to continue from",
    ]


def test_the_best_comes_first_with_its_command(capsys, runs):
    lines = told(capsys, runs, "--best", "val_top1")
    assert [cells(line)[0] for line in lines[3:7]] == ["gone", "done", "alive", "broken"]
    assert lines[-3:] == [
        f"best val_top1: 0.875, {runs}/gone",
        "made by: seit-ray finetune dataset=tokens 'run=a b'",
        f"compare: seit-ray runs {runs}/gone {runs}/done",
    ]


def test_of_a_loss_the_least_is_best(capsys, runs):
    lines = told(capsys, runs, "--best", "val_loss")
    assert cells(lines[2])[4] == "val_loss"
    assert [cells(line)[0] for line in lines[3:6]] == ["gone", "done", "alive"]
    write(runs / "alive" / "metrics.jsonl", metrics() + '{"step": 50, "val_top1": NaN}\n')
    assert cells(told(capsys, runs, "--best", "val_top1")[6])[0] == "alive"  # a run that has diverged is never best


def test_the_best_trial_tells_its_settings(capsys, tmp_path):
    write_trial(tmp_path, "a", **{"optimizer.lr": 0.1, "model.size": "nano"})
    assert told(capsys, tmp_path, "--best", "val_top1")[-1] == "settings: optimizer.lr=0.1 model.size=nano"


def test_two_runs_side_by_side(capsys, runs):
    lines = told(capsys, runs / "done", runs / "alive")
    assert lines[0] == "2 keys differ"
    found = {cells(line)[0]: cells(line)[1:] for line in lines[3:]}
    assert found["state"] == ["done", "running"]
    assert found["val_top1"] == ["0.75", "0.5"]
    assert found["optimizer.lr"] == ["0.001", "0.003"]
    assert found["model.size"] == ["-", "nano"]
    assert "dataset" not in found
    assert "loop.epochs" not in found


def test_two_runs_of_which_one_has_no_config(capsys, runs):
    write(runs / "bare" / "metrics.jsonl", metrics())
    lines = told(capsys, runs / "done", runs / "bare")
    assert lines[-1] == f"{runs}/bare has no <verb>.run.json: its config is not known"
    assert not any(line.startswith("optimizer") for line in lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "the following arguments are required: FOLDER; see seit-ray runs --help"),
        (["{}", "{}", "{}"], "3 folders; expected one to list, or two runs to compare"),
        (["storage.region=x"], "0 folders; expected one to list"),
        (["{}/nowhere"], "/nowhere does not exist; expected an existing path"),
        (["{}/done", "{}/nowhere"], "/nowhere does not exist"),
        (["{}/done", "{}"], "is no run: 5 runs are below it; expected a folder with metrics.jsonl"),
        (["{}/done", "{}/done/checkpoints"], "is no run: no verb has written there"),
        (["{}/done/checkpoints"], "no run in {}/done/checkpoints or below; expected what verbs have written"),
        (["{}", "--best", "val_top"], "unknown metric val_top; expected one of samples_per_s, train_loss, val_loss"),
        (["{}/fault", "--best", "x"], "unknown metric x; expected one of (no run has any)"),
        (["{}/done", "{}/alive", "--best", "val_top1"], "--best with two runs; expected it with one folder"),
        (["{}", "storage.endpoint=x"], "unknown key storage.endpoint; did you mean storage.endpoint_url?"),
        (["{}", "--last"], "unrecognized arguments: --last"),
        (["hdfs://bucket/runs"], "uri hdfs://bucket/runs; expected s3://BUCKET/PATH"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(capsys, runs, words, told):
    (runs / "done" / "checkpoints").mkdir()
    error = mistake(capsys, "runs", *(word.replace("{}", str(runs)) for word in words))
    assert told.replace("{}", str(runs)) in error


def test_a_fault_of_the_program_is_told_in_its_last_line(capsys, monkeypatch, tmp_path):
    def fails(*arguments, **options):
        raise KeyError("bug")

    monkeypatch.setattr("seit_ray.verbs.runs.list_runs", fails)
    with pytest.raises(SystemExit) as caught:
        main(["runs", str(tmp_path)])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: KeyError: 'bug'; this is a fault of the program: \S+runs.error.txt has .*\n", error)


def test_in_a_bucket_with_the_storage_keys_of_the_verbs(capsys, monkeypatch, runs, s3_server):
    monkeypatch.undo()  # servers refuse requests from long ago
    place = f"s3://{s3_server.create_bucket('runs-verb')}/runs"
    remote = Folder(place, **s3_server.credentials)
    for entry in Folder(runs).list():
        remote.write(entry.name, Folder(runs).read(entry.name))
    keys = [f"storage.{key}={value}" for key, value in s3_server.credentials.items()]
    lines = told(capsys, place, "--best", "val_top1", *keys)
    assert lines[0].startswith(f"{place}: 5 runs, ")
    assert cells(lines[3])[0] == "gone"
    wrong = [key.replace("testing", "hunter2") for key in keys]
    error = mistake(capsys, "runs", place, *wrong)
    assert f"{place} is not accessible" in error
    assert "hunter2" not in error


@pytest.mark.parametrize("tool", ["runs", "status", "schema"])
def test_a_tool_in_a_process_of_its_own_imports_neither_torch_nor_ray(tmp_path, tool):
    write_run(tmp_path)
    write(tmp_path / "_work" / "plan.json", {"rows_per_shard": 10})
    words = {"runs": [str(tmp_path)], "status": [str(tmp_path)], "schema": ["pretrain"]}[tool]
    done = python("-X", "importtime", "-m", "seit_ray", tool, *words)
    assert done.returncode == 0, done.stderr
    packages = imported(done)
    assert {"pydantic", "seit_ray"} <= packages  # so it is seen what is imported
    assert not packages & {"torch", "ray", "timm"}
