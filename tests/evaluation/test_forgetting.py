"""Figures of class-incremental learning, against sums by hand."""

import pytest

from seit_ray.evaluation.forgetting import incremental_figures, step_figures

STEPS = [range(2), range(2, 3)]


def test_accuracies_of_all_classes_and_of_each_step():
    figures = step_figures([3, 1, 4], [4, 4, 8], STEPS)
    assert figures == {"top1": 8 / 16, "of_step": [4 / 8, 4 / 8]}
    assert step_figures([3, 1], [4, 4], STEPS[:1]) == {"top1": 0.5, "of_step": [0.5]}


def test_forgetting_is_the_fall_from_the_best_before():
    after = [
        {"top1": 0.9, "of_step": [0.9]},
        {"top1": 0.7, "of_step": [0.6, 0.8]},
        {"top1": 0.5, "of_step": [0.7, 0.4, 0.6]},
    ]
    figures = incremental_figures(after)
    assert figures["mean_top1"] == pytest.approx(0.7)
    assert figures["last_top1"] == 0.5
    assert figures["forgetting"] == pytest.approx(((0.9 - 0.7) + (0.8 - 0.4)) / 2)


def test_what_has_grown_is_forgotten_less_than_nothing():
    after = [{"top1": 0.5, "of_step": [0.5]}, {"top1": 0.8, "of_step": [0.7, 0.9]}]
    assert incremental_figures(after)["forgetting"] == pytest.approx(-0.2)
    assert incremental_figures(after[:1]) == {"mean_top1": 0.5, "last_top1": 0.5, "forgetting": 0.0}
