"""Means of the steps since the last record, of metrics that not every step has too."""

import math

import pytest
import torch

from seit_ray.training.window import Window
from tests.tiny_trainers import CPU, comparable, tiny_trainer


def step(window, metrics, *, skipped=False):
    """A step in two parts."""
    for share in (0.25, 0.75):
        window.add({name: torch.tensor(value) for name, value in metrics.items()}, share)
    window.end_step(torch.tensor(float(skipped)))


def test_a_metric_is_the_mean_of_the_steps_that_it_was_in():
    window = Window(CPU)
    step(window, {"loss": 1.0})
    step(window, {"loss": 7.0, "accuracy": 0.9}, skipped=True)
    step(window, {"loss": 2.0})
    step(window, {"loss": 6.0, "accuracy": 0.5})
    assert window.flush() == {"train_loss": 3.0, "train_accuracy": 0.5, "skipped_steps": 1}
    step(window, {"loss": math.nan, "accuracy": math.nan}, skipped=True)
    found = window.flush()
    assert math.isnan(found["train_loss"])
    assert math.isnan(found["train_accuracy"])
    assert window.flush() == {}


@pytest.mark.parametrize("is_old", [False, True])
def test_a_window_goes_on_where_a_checkpoint_left_it(is_old):
    first, second = Window(CPU), Window(CPU)
    step(first, {"loss": 1.0})
    step(first, {"loss": 9.0}, skipped=True)
    total = first.total()
    if is_old:  # of a version in which every metric was one of every step
        total = {name: value for name, value in total.items() if not name.startswith("steps of ")}
    second.restore(total, first.steps)
    step(second, {"loss": 3.0, "accuracy": 0.5})
    assert second.flush() == {"train_loss": 2.0, "train_accuracy": 0.5, "skipped_steps": 1}


def test_the_loop_has_an_objective_look_at_the_steps_that_it_records(run):
    from seit_ray.objectives import SupervisedObjective

    class Looking(SupervisedObjective):
        looks = True

        def __init__(self):
            super().__init__()
            self.seen = []

        def loss(self, model, batch, step_rng):
            self.seen.append(self.looks)
            return super().loss(model, batch, step_rng)

    objective = Looking()
    tiny_trainer(run, objective=objective, loop={"log_every_steps": 3, "eval_every_epochs": 1}).train()
    recorded = {record["step"] for record in comparable(run)}
    assert objective.seen == [number in recorded for number in range(1, 9)]
    assert recorded == {3, 4, 6, 8}
