"""The supervised objective: the loss itself, its metrics, and equal results for any number of ranks."""

import itertools
import math

import pytest
import torch
from torch import nn

from seit_ray.augment.random import StepRandom
from seit_ray.objectives import OBJECTIVES, Batch, SupervisedObjective


class Lookup(nn.Module):
    """Logits of a row: the sum of its tokens' rows in a table."""

    def __init__(self, num_codes=7, num_classes=4):
        super().__init__()
        self.table = nn.Embedding(num_codes, num_classes)

    def forward(self, tokens):
        return self.table(tokens).sum(dim=1)


def rng(rows=slice(0, 6), size=6):
    return StepRandom(0, 0, rows, size)


@pytest.fixture
def case():
    torch.manual_seed(0)
    return Lookup(), torch.randint(7, (6, 5)), torch.randint(4, (6,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_smoothed_mean_and_accuracy_counts(case, smoothing):
    model, tokens, labels = case
    loss, metrics = SupervisedObjective(label_smoothing=smoothing).loss(model, Batch(tokens, labels), rng())
    log_p = model(tokens).log_softmax(dim=1)
    expected = [
        -(1 - smoothing) * row[label] - smoothing * row.mean() for row, label in zip(log_p, labels, strict=True)
    ]
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    assert loss.requires_grad
    assert not metrics["accuracy"].requires_grad
    assert metrics["accuracy"].item() == pytest.approx((log_p.argmax(1) == labels).float().mean().item())


def test_bfloat16_logits_give_a_float32_loss(case):
    model, tokens, labels = case
    loss, metrics = SupervisedObjective().loss(model.bfloat16(), Batch(tokens, labels), rng())
    assert loss.dtype == metrics["accuracy"].dtype == torch.float32
    assert math.isfinite(loss.item())


@pytest.mark.parametrize("cuts", [(0, 3, 6), (0, 2, 4, 6), (0, 1, 6)])
def test_ranks_weighted_by_their_rows_give_the_global_gradient(case, cuts):
    model, tokens, labels = case
    objective = SupervisedObjective(label_smoothing=0.1)
    objective.loss(model, Batch(tokens, labels), rng())[0].backward()
    whole, model.table.weight.grad = model.table.weight.grad, None
    for start, stop in itertools.pairwise(cuts):
        rows = slice(start, stop)
        loss, _ = objective.loss(model, Batch(tokens[rows], labels[rows]), rng(rows))
        (loss * (stop - start) / 6).backward()
    torch.testing.assert_close(model.table.weight.grad, whole)


def test_registry_builds_it_from_keywords():
    assert isinstance(OBJECTIVES["supervised"](label_smoothing=0.1), SupervisedObjective)


def test_wrong_settings_and_missing_labels_are_refused(case):
    model, tokens, _ = case
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"label_smoothing {smoothing}; expected 0 <= label_smoothing < 1"):
            SupervisedObjective(label_smoothing=smoothing)
    with pytest.raises(ValueError, match=r"labels None; expected int64 \[B\]"):
        SupervisedObjective().loss(model, Batch(tokens), rng())
