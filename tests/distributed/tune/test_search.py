"""Optuna's proposals and successive halving, without Ray: what an earlier call found is known to them."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from seit_ray.distributed.tune.search import OptunaProposals, successive_halving
from seit_ray.studies.proposals import proposal_from, settings_from

RANGES = {
    "size": ("choice", ("nano", "tiny")),
    "area": ("choice", ([0.2, 1], [0.5, 1])),
    "std": ("quniform", (0.0, 0.3, 0.1)),
    "epochs": ("quniform", (2, 9, 3)),
    "lr": ("loguniform", (1e-4, 1e-2)),
    "share": ("uniform", (0, 1)),
}
FINITE = {"a": ("choice", (1, 2, 3)), "b": ("quniform", (0, 1, 1))}


def proposals(ranges=RANGES, seed=0, **earlier):
    pytest.importorskip("optuna")
    return OptunaProposals(ranges, "val_top1", "max", seed, **earlier)


def test_proposals_lie_in_the_space_and_stand_for_its_values():
    search = proposals()
    for i in range(20):
        proposal = search.suggest(f"trial {i}")
        found = settings_from(proposal, RANGES)
        assert found["size"] in ("nano", "tiny")
        assert found["area"] in ([0.2, 1], [0.5, 1])
        assert found["std"] in (0, 0.1, 0.2, 0.3)
        assert found["epochs"] in (2, 5, 8)
        assert isinstance(found["epochs"], int)
        assert 1e-4 <= found["lr"] <= 1e-2
        assert 0 <= found["share"] <= 1
        assert settings_from(proposal_from(found, RANGES), RANGES) == found
        search.on_trial_complete(f"trial {i}", {"val_top1": 0.1 * i})


def test_nothing_is_proposed_twice_and_a_space_has_an_end():
    finished = [({"a": 1, "b": 0}, 0.3), ({"a": 9, "b": 0}, 0.9)]  # the second is of an earlier space
    search, found = proposals(FINITE, finished=finished), []
    for i in range(5):
        found.append(settings_from(search.suggest(str(i)), FINITE))
        search.on_trial_complete(str(i), error=i == 2)
    assert search.suggest("more") == Searcher.FINISHED
    assert {(f["a"], f["b"]) for f in found} == {(a, b) for a in (1, 2, 3) for b in (0, 1)} - {(1, 0)}


def test_interrupted_trials_are_proposed_first():
    search = proposals(interrupted=[settings_from(proposals(seed=5).suggest("x"), RANGES)])
    assert settings_from(search.suggest("1"), RANGES) == settings_from(proposals(seed=5).suggest("x"), RANGES)


def test_proposals_follow_what_was_good():
    ranges = {"x": ("uniform", (0, 1))}
    finished = [({"x": i / 40}, 1 - abs(i / 40 - 0.25)) for i in range(41)]
    search = proposals(ranges, finished=finished)
    found = [search.suggest(str(i))["x"] for i in range(10)]
    assert sum(abs(x - 0.25) < 0.2 for x in found) >= 8


@pytest.mark.parametrize(
    "change", [{"lr": 1.0}, {"size": "huge"}, {"std": -0.1}, {"std": 0.15}, {"lr": "many"}, {"lr": None}, {"more": 3}]
)
def test_settings_of_another_space(change):
    settings = {"size": "tiny", "area": [0.5, 1], "std": 0.1, "epochs": 5, "lr": 1e-3, "share": 0.5}
    assert proposal_from(settings, RANGES) == settings | {"size": 1, "area": 1, "std": 1, "epochs": 1}
    assert proposal_from(settings | change, RANGES) is None


def verdict(scheduler, name, epoch, value):
    trial = SimpleNamespace(trial_id=name)
    if epoch == 1:
        scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "val_loss": value})


def test_a_trial_behind_those_of_an_earlier_call_is_stopped():
    history = [(f"old {i}", [{"epoch": e, "val_loss": i / e} for e in (1, 2, 3, 4)]) for i in (1, 2, 3)]
    settings = {"max_epochs": 4, "grace_epochs": 1, "reduction_factor": 2}
    fresh, knows = (successive_halving("val_loss", "min", **settings, history=h) for h in ((), history))
    assert verdict(fresh, "a", 1, 2.5) == TrialScheduler.CONTINUE
    assert verdict(knows, "a", 1, 2.5) == TrialScheduler.STOP
    assert verdict(knows, "b", 1, 0.5) == TrialScheduler.CONTINUE
    assert verdict(knows, "b", 2, 9.0) == TrialScheduler.STOP


def test_a_trial_in_its_last_epoch_is_left_to_end():
    scheduler = successive_halving("val_loss", "min", max_epochs=4, grace_epochs=1, reduction_factor=2)
    for name, value in (("a", 1.0), ("b", 1.0)):
        for epoch in (1, 2, 3):
            assert verdict(scheduler, name, epoch, value) == TrialScheduler.CONTINUE
    assert verdict(scheduler, "b", 4, 99.0) == TrialScheduler.CONTINUE


def test_a_record_without_the_metric_decides_nothing():
    scheduler = successive_halving("val_loss", "min", max_epochs=4, grace_epochs=1, reduction_factor=2)
    trial = SimpleNamespace(trial_id="a")
    scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, trial, {"epoch": 1, "train_loss": 3}) == TrialScheduler.CONTINUE
