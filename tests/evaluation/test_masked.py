"""Figures of masked token models: fixed masks, weighted by samples."""

import pytest
import torch

from seit_ray.augment.random import StepRandom
from seit_ray.evaluation.masked import EVAL_SEED, masked_metrics
from seit_ray.objectives import Batch, MTMObjective
from seit_ray.training.world import World
from tests.tiny_trainers import CPU, tiny_masked, tiny_store


class Part(World):
    """A rank whose peers are not there: sums are its own."""

    def sum(self, values):
        parts.append(values)
        return values


parts = []


def test_metrics_are_the_means_over_samples():
    model, objective, store = tiny_masked(dropout=0.5), MTMObjective(), tiny_store(23)
    found = masked_metrics(model, objective, store, CPU, batch_size=10)
    model.eval()
    losses, hits = [], []
    for chunk, rows in enumerate((slice(0, 10), slice(10, 20), slice(20, 23))):
        tokens = torch.from_numpy(store.tokens[rows].astype("int64"))
        with torch.no_grad():
            loss, metrics = objective.loss(model, Batch(tokens), StepRandom(EVAL_SEED, chunk, rows, 23))
        losses += [loss.item()] * len(tokens)
        hits += [metrics["masked_accuracy"].item()] * len(tokens)
    assert found["loss"] == pytest.approx(sum(losses) / 23)
    assert found["masked_accuracy"] == pytest.approx(sum(hits) / 23)


def test_masks_are_the_same_every_time():
    model, store = tiny_masked(), tiny_store(23)
    torch.manual_seed(1)
    first = masked_metrics(model, MTMObjective(), store, CPU)
    torch.manual_seed(2)
    assert masked_metrics(model, MTMObjective(), store, CPU) == first


def test_ranks_add_up():
    model, store = tiny_masked(), tiny_store(23)
    whole = masked_metrics(model, MTMObjective(), store, CPU, batch_size=4)
    parts.clear()
    for rank in range(3):
        masked_metrics(model, MTMObjective(), store, Part(rank, 3, CPU.device), batch_size=4)
    loss, accuracy, total = sum(parts).tolist()
    assert total == 23
    assert loss / total == pytest.approx(whole["loss"])
    assert accuracy / total == pytest.approx(whole["masked_accuracy"])
