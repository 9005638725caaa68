"""The loss of label maps: that of a plain loop, and the same for any number of ranks and micro-batches."""

import math

import pytest
import torch
from torch import nn

from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import Batch
from seit_ray.images.label_maps import VOID
from seit_ray.objectives import OBJECTIVES, SegmentObjective


class Fixed(nn.Module):
    """Logits of a row that follow from its first token."""

    def forward(self, tokens):
        base = torch.arange(3.0).view(1, 3, 1, 1).expand(len(tokens), 3, 2, 2)
        return base * tokens[:, :1, None, None], -base if self.training else None


def batch(rows):
    maps = torch.tensor([[[0, 1], [2, VOID]], [[2, 2], [VOID, VOID]], [[0, 0], [0, 0]], [[1, 1], [2, 2]]])
    tokens = torch.tensor([[0], [1], [2], [3]])
    return Batch(tokens[rows], maps[rows].to(torch.uint8)), StepRandom(0, 0, rows, 4)


def test_the_loss_is_that_of_each_pixel_over_all_pixels():
    loss, metrics = SegmentObjective(aux_weight=0.5).loss(Fixed().train(), *batch(slice(0, 4)))
    total, aux, right = 0.0, 0.0, []
    for number, row in enumerate(batch(slice(0, 4))[0].labels.tolist()):
        logits = [number * c for c in range(3)]
        counted = [label for line in row for label in line if label != VOID]
        total += sum(math.log(sum(map(math.exp, logits))) - logits[c] for c in counted)
        aux += sum(math.log(sum(math.exp(-c) for c in range(3))) + c for c in counted)
        told = max(range(3), key=lambda c: (logits[c], -c))
        right.append(sum(c == told for c in counted) / len(counted))
    assert loss.item() == pytest.approx((total + 0.5 * aux) / 16, rel=1e-5)
    assert metrics["pixel_accuracy"].item() == pytest.approx(sum(right) / 4)


def test_means_over_parts_of_the_batch_are_those_of_the_whole():
    objective, net = SegmentObjective(), Fixed().train()
    whole, metrics = objective.loss(net, *batch(slice(0, 4)))
    parts = [objective.loss(net, *batch(rows)) for rows in (slice(0, 1), slice(1, 4))]
    assert (parts[0][0] + 3 * parts[1][0]).item() / 4 == pytest.approx(whole.item(), rel=1e-5)
    mean = (parts[0][1]["pixel_accuracy"] + 3 * parts[1][1]["pixel_accuracy"]) / 4
    assert mean.item() == pytest.approx(metrics["pixel_accuracy"].item())


def test_maps_that_are_void_alone_cost_nothing():
    void = Batch(torch.ones(2, 1, dtype=torch.int64), torch.full((2, 4, 4), VOID, dtype=torch.uint8))
    loss, metrics = SegmentObjective().loss(Fixed().eval(), void, StepRandom(0, 0, slice(0, 2), 2))
    assert (loss.item(), metrics["pixel_accuracy"].item()) == (0.0, 0.0)


def test_labels_of_images_and_a_negative_weight_are_refused():
    assert OBJECTIVES["segmentation"] is SegmentObjective
    with pytest.raises(ValueError, match="labels without maps"):
        SegmentObjective().loss(Fixed(), Batch(torch.ones(1, 1), torch.ones(1)), StepRandom(0, 0, slice(0, 1), 1))
    with pytest.raises(ValueError, match="aux_weight -1"):
        SegmentObjective(aux_weight=-1)
