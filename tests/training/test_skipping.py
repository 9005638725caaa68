"""Steps whose loss or gradients are not finite: skipped, counted, and the end of a run when there are too many."""

import json
import math

import pytest
import torch

from seit_ray.objectives import SupervisedObjective
from seit_ray.training.checkpoints import checkpoint_names
from seit_ray.training.metrics import read_metrics
from tests.tiny_trainers import take_step, tiny_store, tiny_trainer


class Exploding(SupervisedObjective):
    """The loss is multiplied by `factor` in some steps."""

    def __init__(self, steps, factor):
        super().__init__()
        self.steps, self.factor = steps, factor

    def loss(self, model, batch, step_rng):
        loss, metrics = super().loss(model, batch, step_rng)
        return loss * (self.factor if step_rng.step in self.steps else 1.0), metrics


class BadGradient(torch.autograd.Function):
    """The identity, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


class BadGradients(SupervisedObjective):
    """A finite loss with gradients that are not."""

    def loss(self, model, batch, step_rng):
        loss, metrics = super().loss(model, batch, step_rng)
        return BadGradient.apply(loss), metrics


def state_of(trainer):
    """Weights and moments."""
    moments = [value.clone() for state in trainer.optimizer.state.values() for value in state.values()]
    return [value.clone() for value in trainer.model.state_dict().values()] + moments


@pytest.mark.parametrize("objective", [Exploding({1}, math.nan), Exploding({1}, math.inf), BadGradients()])
@pytest.mark.parametrize("clip_grad", [None, 1.0])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_bad_step_changes_nothing(run, objective, clip_grad, name):
    trainer = tiny_trainer(run, optimizer={"clip_grad": clip_grad, "warmup_epochs": 0, "name": name})
    take_step(trainer, 0)
    before = state_of(trainer)
    trainer.objective = objective
    take_step(trainer, 1)
    assert all(torch.equal(a, b) for a, b in zip(state_of(trainer), before, strict=True))
    trainer.objective = SupervisedObjective()
    take_step(trainer, 2)
    assert not all(torch.equal(a, b) for a, b in zip(state_of(trainer), before, strict=True))


@pytest.mark.parametrize("accum_steps", [1, 4])
def test_skipped_steps_are_counted_and_left_out_of_the_means(run, accum_steps):
    loop = {"log_every_steps": 2, "accum_steps": accum_steps, "epochs": 2}
    metrics = tiny_trainer(run, objective=Exploding({2, 3, 5}, math.nan), loop=loop).train()
    records = read_metrics(run)
    assert [r.get("skipped_steps", 0) for r in records] == [0, 2, 1, 0]
    assert math.isnan(records[1]["train_loss"])
    assert all(0 < r["train_loss"] < 2 for r in (records[0], *records[2:]))
    assert metrics["step"] == 8


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_too_many_in_a_row_end_the_run_and_name_the_samples(run, bad):
    store = tiny_store()
    loop = {"max_skipped_steps": 3, "log_every_steps": 1}
    text = r"^loss or gradients not finite in 3 steps in a row, up to step 8 \(epoch 2.00\); expected finite numbers"
    with pytest.raises(ValueError, match=text) as caught:
        tiny_trainer(run, objective=Exploding({1, 5, 6, 7}, bad), loop=loop, store=store).train()
    assert "skipped_steps.json" in str(caught.value)
    found = json.loads(run.read("skipped_steps.json"))
    assert [entry["step"] for entry in found] == [6, 7, 8]
    assert [entry["samples"] for entry in found] == [store.step_rows(16, 0, step).tolist() for step in (5, 6, 7)]
    assert checkpoint_names(run) == ["step-000000004"]
    assert [r["step"] for r in read_metrics(run)] == [1, 2, 3, 4, 5, 6, 7]  # what led there can be seen


def test_others_between_them_let_the_run_go_on(run):
    loop = {"max_skipped_steps": 2, "log_every_steps": 1}
    tiny_trainer(run, objective=Exploding({1, 3, 5}, math.nan), loop=loop).train()
    assert sum(r.get("skipped_steps", 0) for r in read_metrics(run)) == 3
    assert not run.exists("skipped_steps.json")
