"""A study on a local ray of two CPUs: trials start when what they need has finished; failures take nothing along."""

import pytest
from ray.tune.search import Searcher

from seit_ray.distributed.tune.study_job import ReadyTrials, run_study
from seit_ray.storage import Folder, StorageError
from seit_ray.storage.errors import may_pass
from seit_ray.studies.in_process import run_in_process
from seit_ray.studies.lines import lines_of, table_csv
from seit_ray.studies.queue import Queue
from seit_ray.studies.study import TrialSettings, read_calls
from tests.distributed.data.jobs import Interruption
from tests.distributed.tune.sweeps import progress_of
from tests.studies.tiny_studies import tiny_study


def test_the_search_waits_for_what_is_needed_and_ends_with_the_queue(tmp_path):
    study = tiny_study(Folder(tmp_path), arms=("a",), seeds=(0,))
    search = ReadyTrials(Queue(study.trials))
    first = search.suggest("1")
    assert first == {"trial": study.trials[0].name}
    assert search.suggest("2") is None  # what is left waits
    search.on_trial_complete("1", {"ended": True, "figures/bytes": 1})
    assert search.suggest("3") == {"trial": study.trials[1].name}
    assert search.suggest("4") == Searcher.FINISHED


@pytest.mark.parametrize("how", [{"result": {"mistake": "bad"}}, {"error": True}])
def test_the_search_drops_what_needs_a_failed_trial(tmp_path, how):
    study = tiny_study(Folder(tmp_path), arms=("a",), seeds=(0,))
    search = ReadyTrials(Queue(study.trials))
    search.suggest("1")
    search.on_trial_complete("1", **how)
    assert search.suggest("2") == Searcher.FINISHED
    assert search.queue.lost == {study.trials[1].name: study.trials[0].name}


def test_a_study_on_ray_has_the_figures_of_one_process(ray_cluster, tmp_path):
    expected = lines_of(run_in_process(tiny_study(Folder(tmp_path / "here"))), "top1")
    folder, mend, states = Folder(tmp_path / "ray"), Folder(tmp_path / "mend"), []
    study = tiny_study(folder, fails=mend)
    outcomes = run_study(study, TrialSettings(), ray_cluster, progress_of(states))
    assert [outcome.status for outcome in outcomes] == ["finished"] * 4 + ["failed"] * 2
    assert outcomes[-1].error == "seed 1; expected another; mend it"
    assert "tiny_studies.py" in folder.read(f"trials/{outcomes[-1].name}/error.txt").decode()
    assert states[0] == (0, 6, "started")
    assert states[-1][:2] == (6, 6)
    mend.write("mended", b"")
    outcomes = run_study(study, TrialSettings(), ray_cluster, progress_of(states))
    assert table_csv(lines_of(outcomes, "top1"), "top1", ()) == table_csv(expected, "top1", ())
    assert [call.trials for call in read_calls(folder)] == [6, 2]
    assert all(call.slots == 2 and 0 <= call.idle_share < 1 for call in read_calls(folder))


def test_a_storage_that_stays_away_ends_a_study_which_goes_on_when_it_is_back(ray_cluster, tmp_path):
    """As in one process: no trial has failed, and whoever called may try again."""
    folder, away = Folder(tmp_path / "study"), Folder(tmp_path / "away")
    study = tiny_study(folder, arms=("a",), seeds=(0,), away=away)
    with pytest.raises(StorageError, match=r"s3://bucket does not answer; expected it to; try again") as caught:
        run_study(study, TrialSettings(max_failures=0), ray_cluster)
    assert may_pass(caught.value)
    assert {outcome.status for outcome in study.known()} == {"finished", "running"}
    away.write("back", b"")
    outcomes = run_study(study, TrialSettings(max_failures=0), ray_cluster)
    assert {outcome.status for outcome in outcomes} == {"finished"}


def test_an_interrupted_study_ends_its_trials_and_goes_on(ray_cluster, tmp_path):
    study = tiny_study(Folder(tmp_path))

    def interrupt(phase, done, total, note=""):
        if done:
            raise Interruption

    with pytest.raises(Interruption):
        run_study(study, TrialSettings(), ray_cluster, interrupt)
    kept = {outcome.name for outcome in study.finished()}
    assert 1 <= len(kept) < 6
    outcomes = run_study(study, TrialSettings(), ray_cluster)
    assert {outcome.status for outcome in outcomes} == {"finished"}
    assert [o.figures["top1"] for o in outcomes if "seed" in o.settings] == [0.1, 0.11, 0.3, 0.31]
    assert all(o.figures["calls"] == 1 for o in outcomes if o.name in kept and "seed" in o.settings)
