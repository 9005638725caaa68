"""What a sweep says before any trial."""

import importlib.util

import pytest

from seit_ray.runs.settings import WorkerSettings
from seit_ray.storage import Folder
from seit_ray.studies.sweep import SearchSettings, SweepJob
from seit_ray.studies.trials import Outcome, write_outcome


def job(tmp_path, *, trials=None, max_epochs=3, **search):
    """A sweep that builds nothing."""
    shared = {"build": None, "metric": "val_top1", "mode": "max", "workers": WorkerSettings(), "ranges": {}}
    return SweepJob(
        folder=Folder(tmp_path), search=SearchSettings(**search), trials=trials, max_epochs=max_epochs, **shared
    )


def test_without_optuna_a_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"without the package optuna; expected it installed; pip install optuna"):
        job(tmp_path).check()
    job(tmp_path, trials=[{}]).check()  # of a list, nothing is proposed


def test_no_trial_can_be_stopped_before_its_last_epoch(tmp_path):
    with pytest.raises(ValueError, match=r"search.grace_epochs 3 of 3 epochs; expected fewer"):
        job(tmp_path, trials=[{}], scheduler="asha", grace_epochs=3).check()
    job(tmp_path, trials=[{}], scheduler="asha", grace_epochs=2).check()
    job(tmp_path, trials=[{}], grace_epochs=3).check()


def test_figures_of_one_metric_are_not_told_as_those_of_another(tmp_path):
    write_outcome(Folder(tmp_path), Outcome("b", {}, "failed", error="it broke"))
    write_outcome(Folder(tmp_path), Outcome("a", {}, "finished", 0.4, metric="val_top1"))
    job(tmp_path, trials=[{}]).check()
    write_outcome(Folder(tmp_path), Outcome("a", {}, "finished", 1.2, metric="val_loss"))
    with pytest.raises(ValueError, match=r"were measured and stopped by val_loss \(now val_top1\); expected the same"):
        job(tmp_path, trials=[{}]).check()
