"""Figures of masked token models: fixed masks, weighted by samples."""

import math

import pytest
import torch
from torch.nn import functional as F

from seit_ray.augment.masking import mask_noise
from seit_ray.augment.random import StepRandom
from seit_ray.evaluation.masked import EVAL_SEED, RATIOS, masked_metrics
from seit_ray.training.world import World
from tests.tiny_trainers import CPU, damaged, tiny_masked, tiny_store


class Part(World):
    """A rank whose peers are not there: sums are its own."""

    def sum(self, values):
        parts.append(values)
        return values


parts = []


def test_metrics_are_the_means_over_samples_at_the_ratio_of_each():
    model, store = tiny_masked(dropout=0.5), tiny_store(23)
    found = masked_metrics(model, store, CPU, batch_size=10)
    model.eval()
    noise = mask_noise(StepRandom(EVAL_SEED, 0, slice(0, 23), 23), 16)
    losses, hits = [], []
    for row in range(23):
        tokens = torch.from_numpy(store.tokens[row : row + 1].astype("int64"))
        num_masked = math.ceil(RATIOS[row % 4] * 16 - 1e-9)
        with torch.no_grad():
            logits, targets, mask = model(tokens, noise[row : row + 1], num_masked, 7)  # 0.4 of 16 units
        assert mask.sum() == num_masked
        losses.append(F.cross_entropy(logits.flatten(0, 2), targets.flatten()).item())
        hits.append((logits.argmax(-1) == targets).float().mean().item())
    assert found["loss"] == pytest.approx(sum(losses) / 23)
    assert found["masked_accuracy"] == pytest.approx(sum(hits) / 23)


def test_figures_depend_on_neither_the_batch_nor_the_masking_of_the_run():
    store = tiny_store(23)
    whole = masked_metrics(tiny_masked(), store, CPU, batch_size=23)
    for size in (1, 3, 10, 512):
        assert masked_metrics(tiny_masked(), store, CPU, batch_size=size) == pytest.approx(whole)
    for least in (0.0, 0.2, 0.6):
        model = tiny_masked()
        model.mask_ratio_min, model.num_dropped = least, math.ceil(least * 16)
        assert masked_metrics(model, store, CPU, batch_size=10) == pytest.approx(whole)


def test_masks_are_the_same_every_time():
    model, store = tiny_masked(), tiny_store(23)
    torch.manual_seed(1)
    first = masked_metrics(model, store, CPU)
    torch.manual_seed(2)
    assert masked_metrics(model, store, CPU) == first


def test_ranks_add_up():
    model, store = tiny_masked(), tiny_store(23)
    whole = masked_metrics(model, store, CPU, batch_size=4)
    parts.clear()
    for rank in range(3):
        masked_metrics(model, store, Part(rank, 3, CPU.device), batch_size=4)
    loss, accuracy, total = sum(parts).tolist()
    assert total == 23
    assert loss / total == pytest.approx(whole["loss"])
    assert accuracy / total == pytest.approx(whole["masked_accuracy"])


def test_a_row_has_its_ratio_and_mask_though_others_cannot_be_read():
    model, store, lost = tiny_masked(), tiny_store(12), (0, 5, 10)
    alone = [
        masked_metrics(model, damaged(store, set(range(12)) - {row}), CPU, 4) for row in range(12) if row not in lost
    ]
    found = masked_metrics(model, damaged(store, lost), CPU, batch_size=5)
    for name, value in found.items():
        assert value == pytest.approx(sum(one[name] for one in alone) / 9, rel=1e-5)
