"""Counts of cases against plain sums over images."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seit_ray.evaluation.case_counts import Tally, add_up
from seit_ray.evaluation.cases import cases_of

CASES = cases_of(["fog", "snow"], [1, 3, 5])
NUM, NUM_CLASSES = 40, 7


def drawn(seed=0):
    """Logits [K,N,C] of all cases and labels [N]."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1 + len(CASES), NUM, NUM_CLASSES, generator=generator)
    return logits, torch.randint(NUM_CLASSES - 1, (NUM,), generator=generator)  # the last class has no image


def counted(logits, labels, size):
    """Counts of batches of a size."""
    tally = Tally(CASES, NUM_CLASSES)
    for start in range(0, len(labels), size):
        for place in range(len(logits)):
            tally.add(place, logits[place, start : start + size], labels[start : start + size])
    return tally.counts()


def test_counts_are_sums_over_images():
    logits, labels = drawn()
    hits = (logits.argmax(-1) == labels).double().numpy()
    found = counted(logits, labels, 9)
    assert found["samples"] == NUM
    assert [case[0] for case in found["cases"]] == hits.sum(1).tolist()
    top5 = [(row.topk(5).indices == labels[:, None]).any(1).sum().item() for row in logits]
    assert [case[1] for case in found["cases"]] == top5
    losses = [F.cross_entropy(row, labels, reduction="sum").item() for row in logits]
    assert [case[2] for case in found["cases"]] == pytest.approx(losses, rel=1e-5)
    squares = {"fog": (hits[1:4].mean(0) ** 2).sum(), "snow": (hits[4:].mean(0) ** 2).sum()}
    assert found["squares"] == pytest.approx(squares)
    assert found["mean_square"] == pytest.approx((hits[1:].mean(0) ** 2).sum())
    own = {str(c): [float((labels == c).sum()), hits[0][labels.numpy() == c].sum()] for c in range(NUM_CLASSES - 1)}
    assert found["classes"] == own


def test_parts_add_up():
    logits, labels = drawn()
    whole = counted(logits, labels, NUM)
    parts = [counted(logits[:, rows], labels[rows], 5) for rows in (slice(0, 11), slice(11, 12), slice(12, NUM))]
    total = add_up([*parts, Tally(CASES, NUM_CLASSES).counts()])  # a part of which no image could be read
    for name in ("squares", "mean_square", "samples", "classes"):
        assert total[name] == pytest.approx(whole[name]) if name != "classes" else total[name] == whole[name]
    assert np.allclose(total["cases"], whole["cases"])


def test_clean_alone():
    logits, labels = drawn()
    tally = Tally([], NUM_CLASSES)
    tally.add(0, logits[0], labels)
    found = tally.counts()
    assert (len(found["cases"]), found["squares"], found["mean_square"]) == (1, {}, 0.0)
