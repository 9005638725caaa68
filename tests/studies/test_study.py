"""A study's folder, its trials in this process, and how it goes on after a kill."""

import json
from dataclasses import replace

import pytest

from seit_ray.storage import Folder
from seit_ray.studies.in_process import run_in_process
from seit_ray.studies.lines import lines_of, table_csv, trials_csv, with_error
from seit_ray.studies.study import read_calls, trial_name
from seit_ray.studies.trials import read_outcomes
from tests.studies.tiny_studies import Killed, tiny_study


def tables(study, outcomes):
    """Both CSV files, without what a clock says."""
    rows = [line.split(",") for line in trials_csv(outcomes).splitlines()]
    drop = [rows[0].index(name) for name in ("seconds", "calls")]
    kept = [[cell for i, cell in enumerate(row) if i not in drop] for row in rows]
    return table_csv(lines_of(outcomes, "top1"), "top1", ("test_images",)), kept


def test_every_trial_is_run_once_and_recorded(tmp_path):
    study = tiny_study(Folder(tmp_path / "study"))
    study.begin()
    outcomes = run_in_process(study)
    assert [outcome.name for outcome in outcomes] == [trial.name for trial in study.trials]
    assert {outcome.status for outcome in outcomes} == {"finished"}
    assert [o.figures["top1"] for o in outcomes if "seed" in o.settings] == [0.1, 0.11, 0.3, 0.31]
    assert sorted(read_outcomes(study.folder), key=lambda o: o.name) == sorted(outcomes, key=lambda o: o.name)
    again = run_in_process(study)
    assert again == outcomes  # calls is 1 in all of them
    (call,) = read_calls(study.folder)  # the second had nothing to do
    assert call.trials == 6
    assert call.slots == 1
    assert 0 <= call.idle_share <= 1


def test_a_kill_half_way_leads_to_the_same_figures(tmp_path):
    whole = tiny_study(Folder(tmp_path / "whole"))
    whole.begin()
    expected = tables(whole, run_in_process(whole))
    folder = Folder(tmp_path / "killed")
    study = tiny_study(folder, kills=folder.join("flags"))
    study.begin()
    with pytest.raises(Killed):
        run_in_process(study)
    states = [outcome.status for outcome in read_outcomes(folder)]
    assert states.count("running") == 1
    assert 1 <= states.count("finished") < 6
    outcomes = run_in_process(study)
    assert tables(study, outcomes) == expected
    repeated = [o.figures["calls"] for o in outcomes if "seed" in o.settings]
    assert sorted(repeated) == [1, 1, 1, 2]  # what had finished was not done again


def test_what_fails_is_named_takes_only_what_needs_it_and_is_tried_again(tmp_path):
    folder, mend = Folder(tmp_path / "study"), Folder(tmp_path / "mend")
    study = tiny_study(folder, fails=mend)
    outcomes = {o.name: o for o in run_in_process(study)}
    failed = [o for o in outcomes.values() if o.status == "failed"]
    assert [o.error for o in failed] == ["seed 0; expected another; mend it", "seed 1; expected another; mend it"]
    (good, bad) = lines_of(list(outcomes.values()), "top1")
    assert (good.values, bad.values) == ((0.1, 0.11), ())
    assert with_error(bad) == "failed"
    assert len(bad.failed) == 2
    mend.write("mended", b"")
    assert {o.status for o in run_in_process(study)} == {"finished"}


def test_a_thing_that_cannot_be_made_fails_what_needs_it(tmp_path):
    study = tiny_study(Folder(tmp_path / "study"), arms=("a", None))
    outcomes = run_in_process(study)
    assert [o.status for o in outcomes] == ["finished"] * 3 + ["failed"] * 3
    maker = outcomes[3].name
    assert outcomes[3].error.startswith("AttributeError: ")  # its traceback is that of a fault
    assert [o.error for o in outcomes[4:]] == [f"needs {maker}, which failed"] * 2


def test_other_arms_and_other_settings_are_refused_by_name(tmp_path):
    folder = Folder(tmp_path / "study")
    tiny_study(folder).begin()
    with pytest.raises(
        ValueError, match=r"holds a study of other arms: now without bbb and with cc; expected the same"
    ):
        tiny_study(folder, arms=("a", "cc")).check()
    with pytest.raises(ValueError, match=r"holds a study with images 'photos' \(now 'others'\); expected the same"):
        tiny_study(folder, decided={"images": "others"}).check()
    tiny_study(folder, seeds=(0, 1, 2)).begin()  # more seeds are more of the same
    assert json.loads(folder.read("study.json"))["arms"] == ["a", "bbb"]


def test_a_study_that_reads_other_contents_now_is_refused(tmp_path):
    def study(**contents):
        return replace(tiny_study(Folder(tmp_path)), contents=contents)

    study(tokenizer="aa").begin()
    study(tokenizer="aa").check()
    study(weights="cc").check()  # that nothing has read so far
    with pytest.raises(ValueError, match=r"has trials that read another tokenizer \(aa, now bb\); expected the same"):
        study(tokenizer="bb").check()
    study(tokenizer="aa", weights="cc").begin()
    with pytest.raises(ValueError, match=r"another weights \(cc, now dd\)"):
        study(weights="dd").check()


def test_a_folder_of_something_else_is_refused(tmp_path):
    Folder(tmp_path).write("photo.jpg", b"")
    with pytest.raises(ValueError, match=r"holds photo\.jpg, which this program did not write"):
        tiny_study(Folder(tmp_path)).begin()


def test_a_name_follows_from_all_that_decides():
    assert trial_name("JPEG, q 10", {"a": 1}) == trial_name("JPEG, q 10", {"a": 1})
    assert trial_name("JPEG, q 10", {"a": 1}) != trial_name("JPEG, q 10", {"a": 2})
    assert trial_name("JPEG, q 10", {"a": 1}).startswith("jpeg-q-10-")
