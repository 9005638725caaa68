"""Accuracy of classifiers, against counting by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seit_ray.batches.store import TokenStore
from seit_ray.evaluation.classification import class_counts, classification_metrics, figures_of_counts, per_class_top1
from seit_ray.training.world import World

CPU = World(device=torch.device("cpu"))


class Lookup(torch.nn.Module):
    """Logits are rows of a table: the first token says which."""

    def __init__(self, num_classes, num_rows=30):
        super().__init__()
        self.table = torch.randn(num_rows, num_classes, generator=torch.Generator().manual_seed(0))

    def forward(self, tokens):
        assert not self.training
        return self.table[tokens[:, 0]]


def store_of(num=30, num_classes=7):
    labels = np.random.default_rng(0).integers(num_classes, size=num)
    return TokenStore(np.arange(num, dtype=np.uint16)[:, None], labels)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 512])
def test_metrics_are_those_counted_by_hand(batch_size):
    model, store = Lookup(7), store_of()
    order = model.table.argsort(dim=1, descending=True).tolist()
    metrics = classification_metrics(model, store, 7, CPU, batch_size)
    hits = [[label in row[:k] for row, label in zip(order, store.labels, strict=True)] for k in (1, 5)]
    assert metrics["top1"] == pytest.approx(np.mean(hits[0]))
    assert metrics["top5"] == pytest.approx(np.mean(hits[1]))
    loss = F.cross_entropy(model.table.double(), torch.from_numpy(store.labels))
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-6)


def test_counts_are_by_true_class():
    model, store = Lookup(7), store_of()
    counts = class_counts(model, store, 7, CPU, 8)
    assert counts.shape == (7, 4)
    assert counts[:, 0].tolist() == np.bincount(store.labels, minlength=7).tolist()
    best = model.table.argmax(1).numpy()
    hits = np.bincount(store.labels[best == store.labels], minlength=7)
    assert counts[:, 1].tolist() == hits.tolist()
    shares = per_class_top1(counts)
    assert shares == pytest.approx((hits / np.bincount(store.labels, minlength=7)).tolist())


def test_figures_have_the_standard_error_of_their_hits():
    model, store = Lookup(7), store_of()
    figures = figures_of_counts(class_counts(model, store, 7, CPU, 8), list("abcdefg"))
    hits = model.table.argmax(1).numpy() == store.labels
    assert 0 < hits.mean() < 1
    assert figures["standard_error"] == pytest.approx(hits.std() / np.sqrt(30))
    one = figures_of_counts(class_counts(model, store_of(1), 7, CPU, 8), list("abcdefg"))
    assert (one["samples"], one["standard_error"]) == (1, None)


def test_with_fewer_than_five_classes_the_top_five_are_all():
    metrics = classification_metrics(Lookup(3), store_of(num_classes=3), 3, CPU)
    assert metrics["top5"] == 1.0
    assert metrics["top1"] < 1.0


def test_a_class_without_samples_has_no_share():
    counts = torch.tensor([[4.0, 3.0, 4.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert per_class_top1(counts) == [0.75, None]


def test_ranks_add_up():
    model, store = Lookup(7), store_of()
    parts = [class_counts(model, store, 7, Part(rank, 3, CPU.device), 4) for rank in range(3)]
    torch.testing.assert_close(sum(parts), class_counts(model, store, 7, CPU, 4))


class Part(World):
    """A rank whose peers are not there: sums are its own."""

    def sum(self, values):
        return values
