"""The cases of a table."""

import subprocess
import sys

import pytest

from seit_ray.evaluation.cases import Case, cases_of, check_units, unit_cases


def test_cases():
    assert cases_of(["fog", "snow"], [1, 5]) == [Case("fog", 1), Case("fog", 5), Case("snow", 1), Case("snow", 5)]
    assert unit_cases([0.5, 0.25, 0.5], [1.0]) == [
        Case("occlusion", 0.25),
        Case("occlusion", 0.5),
        Case("shuffle", 1.0),
    ]
    assert unit_cases((), ()) == []


@pytest.mark.parametrize(
    ("occlusion", "shuffle", "words"),
    [
        ([1.0], [], "occlusion 1.0; expected shares of the units, above 0 and below 1"),
        ([0.0], [], "occlusion 0.0; expected shares"),
        ([], [1.5], "shuffle 1.5; expected shares of the units, above 0 and at most 1"),
        ([], [float("nan")], "shuffle nan; expected shares"),
    ],
)
def test_a_share_that_is_none(occlusion, shuffle, words):
    with pytest.raises(ValueError, match=words):
        unit_cases(occlusion, shuffle)


def test_a_dry_run_needs_no_torch():
    modules = "seit_ray.evaluation.cases, seit_ray.evaluation.robustness, seit_ray.evaluation.corruptions.strengths"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_shares_that_leave_nothing_to_see():
    check_units(unit_cases([0.75], [0.5]), 4)
    for case, words in (
        (Case("occlusion", 0.9), "occlusion 0.9 of 4 units"),
        (Case("shuffle", 0.1), "shuffle 0.1 of 4"),
    ):
        with pytest.raises(ValueError, match=words):
            check_units([case], 4)
