"""The order of a sweep's trials."""

import math

import pytest

from seit_ray.studies.sweep_report import ranked
from seit_ray.studies.trials import Outcome


@pytest.mark.parametrize(("mode", "order"), [("max", "cdab"), ("min", "adcb")])
def test_trials_without_a_number_come_behind_those_with_one(mode, order):
    values = {"a": 0.5, "b": math.nan, "c": 0.9, "d": 0.7}
    found = ranked([Outcome(name, {}, "finished", value=value) for name, value in values.items()], mode)
    assert "".join(outcome.name for outcome in found) == order


def test_stopped_and_failed_trials_come_last():
    outcomes = [
        Outcome("f", {}, "failed"),
        Outcome("s", {}, "stopped", value=0.9),
        Outcome("d", {}, "finished", value=0.1),
    ]
    assert [outcome.name for outcome in ranked(outcomes, "max")] == ["d", "s", "f"]
