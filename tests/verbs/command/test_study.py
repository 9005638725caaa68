"""What the verbs of studies share: how many trials run, what is said when none ends, where everything lies."""

from dataclasses import replace

import pytest

from seit_ray.config import Study as StudyConfig
from seit_ray.storage import Folder
from seit_ray.studies.study import note_call
from seit_ray.verbs.command.study import closing_rows, run_trials, study_rows
from tests.studies.tiny_studies import tiny_study


def config_of(folder, **trials):
    return StudyConfig(output=folder.uri, seeds=(0, 1), trials={"max_concurrent": 0, **trials})


def test_a_study_runs_in_this_process_and_leaves_a_record(tmp_path):
    folder = Folder(tmp_path)
    study, config, seen = tiny_study(folder), config_of(folder), []
    outcomes = run_trials(study, config, lambda phase, done, total, note="": seen.append((phase, done, total)))
    assert {outcome.status for outcome in outcomes} == {"finished"}
    assert ("trials", 6, 6) in seen
    assert folder.exists("study_tiny.run.json")
    assert not folder.exists("_lock.json")
    rows = dict(closing_rows(study, outcomes))
    assert rows["last call"].startswith("6 trials in 0 s, 1 at a time; idle ")
    assert rows["report"] == folder.uri_of("report.html")


def test_what_failed_is_named_and_when_nothing_ends_that_is_an_error(tmp_path):
    folder, never = Folder(tmp_path / "study"), Folder(tmp_path / "never")
    outcomes = run_trials(tiny_study(folder, fails=never), config_of(folder), lambda *state: None)
    failed = [
        (name, why) for name, why in closing_rows(tiny_study(folder), outcomes) if name.startswith("failed: bbb-s")
    ]
    assert [why for _, why in failed] == ["seed 0; expected another; mend it", "seed 1; expected another; mend it"]
    folder = Folder(tmp_path / "none")
    with pytest.raises(
        ValueError, match=r"none of 2 trials that measure finished: bbb-s0-\w+: seed 0; expected another"
    ):
        run_trials(tiny_study(folder, arms=("bbb",), fails=never), config_of(folder), lambda *state: None)


def test_a_bug_in_a_trial_leaves_its_traceback_until_it_is_mended(tmp_path):
    folder, mend = Folder(tmp_path / "study"), Folder(tmp_path / "mend")
    study = tiny_study(folder, seeds=(0,), bug=mend)
    outcomes = run_trials(study, config_of(folder), lambda *state: None)
    (failed,) = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert failed.error == "KeyError: 'weights\\nand more of it'"
    trace = folder.read(f"trials/{failed.name}/error.txt").decode()
    assert "tiny_studies.py" in trace
    assert trace.endswith("KeyError: 'weights\\nand more of it'\n")
    assert dict(closing_rows(study, outcomes))["tracebacks"].endswith("/trials/<name>/error.txt")
    mend.write("mended", b"")
    run_trials(study, config_of(folder), lambda *state: None)
    assert not folder.exists(f"trials/{failed.name}/error.txt")


def test_when_nothing_ends_the_cause_is_named_and_not_what_waited_for_it(tmp_path):
    folder = Folder(tmp_path)
    study = tiny_study(folder, arms=("a",))
    broken = replace(study.trials[0], stages=(replace(study.trials[0].stages[0], arguments={"run": folder}),))
    with pytest.raises(ValueError, match=r"none of 2 trials that measure finished: make-a-\w+: TypeError: make\(\)"):
        run_trials(replace(study, trials=(broken, *study.trials[1:])), config_of(folder), lambda *state: None)


def test_a_study_that_would_measure_nothing_is_refused(tmp_path):
    study = tiny_study(Folder(tmp_path), seeds=())
    for step in (study_rows, lambda study, config: run_trials(study, config, lambda *state: None)):
        with pytest.raises(ValueError, match="study_tiny without an arm; expected one at least to be measured"):
            step(study, config_of(study.folder))


def test_the_plan_counts_what_is_done_and_what_runs_at_a_time(tmp_path):
    folder = Folder(tmp_path)
    study = tiny_study(folder)
    rows = study_rows(study, config_of(folder))
    assert ("arm", "a") in rows
    assert dict(rows)["trials"] == "4 that measure, 2 that make what these need"
    assert "done" not in dict(rows)
    assert dict(rows)["ray"].startswith("not used")
    run_trials(study, config_of(folder), lambda *state: None)
    rows = dict(
        study_rows(study, StudyConfig(output=folder.uri, cluster={"num_cpus": 4}, trials={"cpus_per_trial": 2}))
    )
    assert rows["done"] == "6 of 6"
    assert rows["a trial"] == "2 CPUs; 2 at a time"


def test_a_call_that_did_nothing_is_not_noted(tmp_path):
    study = tiny_study(Folder(tmp_path))
    note_call(study, 0.0, [], slots=1)
    assert not study.folder.exists("calls.jsonl")
