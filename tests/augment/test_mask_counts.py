"""Counts of masked units, and mask ratios that no step has."""

import pytest

from seit_ray.augment.mask_counts import check_left, check_ratio, num_units_at

RATIO = {"minimum": 0.4, "mu": 0.45, "std": 0.25, "maximum": 1.0}


def test_counts_of_units_are_ceilings_without_rounding_noise():
    assert [num_units_at(r, 100) for r in (0.0, 0.001, 0.55, 0.551, 1.0)] == [0, 1, 55, 56, 100]
    assert num_units_at(0.4, 196) == 79


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maximum": 0.2}, "mask ratio minimum 0.4, maximum 0.2"),
        ({"maximum": 1.1}, "maximum 1.1"),
        ({"minimum": -0.1}, "minimum -0.1"),
        ({"std": -1.0}, "std -1.0"),
        ({"std": 0.0, "mu": 0.2}, "fixed mask ratio 0.2; expected 0.4 to 1.0"),
    ],
)
def test_ratios_that_no_step_has(changes, message):
    check_ratio(**RATIO)
    check_ratio(**RATIO | {"std": 0.0})
    with pytest.raises(ValueError, match=message):
        check_ratio(**RATIO | changes)


def test_a_unit_is_left_for_the_encoder():
    assert (check_left(0.0, 4), check_left(0.4, 4), check_left(0.75, 4)) == (0, 2, 3)
    for ratio in (0.76, 1.0, -0.1):
        with pytest.raises(ValueError, match=rf"mask_ratio_min {ratio} of 4 units; expected .*; lower it"):
            check_left(ratio, 4)
