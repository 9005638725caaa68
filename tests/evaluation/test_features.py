"""Features of a split: a seeded sample, the same on every rank."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.batches.store import TokenStore
from seit_ray.evaluation.features import Subset, labelled_sample, split_features
from seit_ray.training.world import World
from tests.tiny_trainers import damaged


def store_of(labels):
    """Rows whose tokens are their own number, twice."""
    tokens = np.arange(len(labels), dtype=np.uint16).repeat(2).reshape(-1, 2)
    return TokenStore(tokens, np.array(labels, np.int64))


def encode(tokens):
    """Something of each row alone, [B,3]."""
    return torch.stack([tokens[:, 0], tokens[:, 1] ** 2, -tokens[:, 0]], dim=1) / 7


@dataclass(frozen=True)
class Ranks(World):
    """One of several ranks: width and labels are as all found them, features are summed afterwards."""

    width: int = 0
    told: torch.Tensor | None = None

    def sum(self, values):
        return values if values.is_floating_point() else self.told

    def gather(self, value):
        return [value, self.width]


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 9))
def test_the_sample_is_of_labelled_rows_without_repeats(labels, max_samples, seed):
    sample = labelled_sample(store_of(labels), max_samples, seed)
    labelled = [i for i, label in enumerate(labels) if label >= 0]
    assert len(sample) == min(max_samples, len(labelled))
    assert sample.rows.tolist() == sorted(set(sample.rows.tolist()) & set(labelled))
    assert sample.labels.tolist() == [labels[i] for i in sample.rows]
    assert labelled_sample(store_of(labels), max_samples, seed).rows.tolist() == sample.rows.tolist()


def test_another_seed_draws_other_rows_and_every_row_can_be_drawn():
    store = store_of([0] * 30)
    drawn = [labelled_sample(store, 10, seed).rows.tolist() for seed in range(30)]
    assert len(set(map(tuple, drawn))) == 30
    assert {row for rows in drawn for row in rows} == set(range(30))


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="max_samples 0"):
        labelled_sample(store_of([1]), 0)


@given(num=st.integers(1, 40), batch_size=st.integers(1, 15), size=st.integers(1, 5))
def test_ranks_add_up_to_what_one_process_finds(num, batch_size, size):
    subset = Subset(store_of([1] * 50), np.arange(50)[::-1][:num])
    alone, labels = split_features(encode, subset, World(device=torch.device("cpu")), batch_size=batch_size)
    assert torch.equal(alone, encode(torch.from_numpy(subset.store.tokens[subset.rows].astype(np.int64))))
    assert labels.tolist() == [1] * num
    total = torch.zeros_like(alone)
    for rank in range(size):
        world = Ranks(rank, size, torch.device("cpu"), 3, torch.ones(2, num, dtype=torch.int64))
        total += split_features(encode, subset, world, batch_size=batch_size)[0]
    assert torch.equal(total, alone)


def test_features_are_of_what_can_be_read():
    store = store_of([0, 1, -1, 3, 2, 1, 0, 2, 2])
    subset = Subset(damaged(store, [0, 1, 4, 7]), np.array([7, 0, 1, 3, 4, 5, 2]))
    for batch_size in (2, 3, 10):  # a chunk of nothing among them
        features, labels = split_features(encode, subset, World(device=torch.device("cpu")), batch_size=batch_size)
        assert torch.equal(features, encode(store.batch(np.array([3, 5, 2]), torch.device("cpu")).inputs))
        assert labels.tolist() == [3, 1, -1]
