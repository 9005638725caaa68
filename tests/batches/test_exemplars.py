"""Exemplars: how they are chosen, and how many fit."""

import numpy as np
import pytest
import torch

from seit_ray.batches.exemplars import Memory, first_of_each, fitting_number, herding, label_bytes, random_order


class Bytes:
    """A codec of so many bytes a row, and some for all together."""

    def __init__(self, each, head=0):
        self.each, self.head = each, head

    def size(self, rows):
        return self.head + self.each * len(rows) if len(rows) else 0

    def decoded(self, rows):
        return rows


def plain_herding(features, num):
    """Algorithm 4 of iCaRL as it is written."""
    rows = [row / np.linalg.norm(row) for row in features]
    mean, chosen = np.mean(rows, axis=0), []
    for k in range(1, num + 1):
        total = sum((rows[i] for i in chosen), np.zeros_like(mean))
        left = [i for i in range(len(rows)) if i not in chosen]
        chosen.append(min(left, key=lambda i: np.linalg.norm(mean - (rows[i] + total) / k)))
    return chosen


@pytest.mark.parametrize("seed", range(4))
def test_herding_is_that_of_icarl(seed):
    features = np.random.default_rng(seed).normal(1, 1, (20, 6))
    assert herding(torch.from_numpy(features), 20).tolist() == plain_herding(features, 20)
    assert herding(torch.from_numpy(features), 5).tolist() == plain_herding(features, 5)
    assert sorted(herding(torch.from_numpy(features), 99).tolist()) == list(range(20))


def test_herding_is_nearer_to_the_mean_than_a_random_choice():
    features = torch.nn.functional.normalize(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)), dim=1)

    def distance(rows):
        return float((features.mean(0) - features[rows].mean(0)).norm())

    best = distance(herding(features, 10))
    assert best < min(distance(random_order(200, 10, seed=seed, label=0)) for seed in range(20)) / 2


def test_a_random_order_depends_on_seed_and_class():
    orders = [random_order(50, 50, seed=seed, label=label).tolist() for seed, label in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert random_order(50, 50, seed=0, label=1).tolist() == orders[1]


def test_classes_take_turns():
    ranked = [np.arange(5), np.arange(10, 12), np.arange(20, 24)]

    def kept(num):
        return [rows.tolist() for rows in first_of_each(ranked, num)]

    assert kept(0) == [[], [], []]
    assert kept(4) == [[0, 1], [10], [20]]
    assert kept(7) == [[0, 1, 2], [10, 11], [20, 21]]
    assert kept(8) == [[0, 1, 2], [10, 11], [20, 21, 22]]
    assert kept(99) == [rows.tolist() for rows in ranked]
    assert first_of_each([], 3) == ()


def test_the_most_that_fit():
    ranked = [np.arange(5), np.arange(10, 12)]
    for budget in range(0, 90, 5):
        assert fitting_number(ranked, budget, lambda rows: 10 * len(rows)) == min(7, budget // 10)
    assert fitting_number([], 100, len) == 0


def test_the_number_fits_where_sizes_do_not_grow_evenly():
    sizes = {0: 0, 1: 30, 2: 25, 3: 70, 4: 60, 5: 90}
    for budget in range(0, 100, 5):
        number = fitting_number([np.arange(5)], budget, lambda rows: sizes[len(rows)])
        assert sizes[number] <= budget


def test_few_sizes_are_asked_for():
    asked = []

    def size_of(rows):
        asked.append(len(rows))
        return 3000 + 45 * len(rows) + (0 if len(rows) < 4000 else 500)

    ranked = [np.arange(2000)] * 4
    assert fitting_number(ranked, 100_000, size_of) == (100_000 - 3000) // 45
    assert len(asked) <= 8


def test_a_memory_shrinks_as_classes_come_and_its_bytes_add_up():
    memory = Memory(Bytes(each=10, head=4), budget_bytes=100, shared_bytes=20, label_bytes=1)
    assert (len(memory.rows), memory.num_bytes) == (0, 20)
    memory = memory.with_classes([np.arange(9)])
    assert memory.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert memory.num_bytes == 20 + 4 + 6 * 11  # with one more, 101
    memory = memory.with_classes([np.arange(10, 19), np.arange(20, 21)])
    assert [rows.tolist() for rows in memory.ranked] == [[0, 1, 2], [10, 11], [20]]
    assert memory.num_bytes == 90


def test_what_keeps_nothing_stays_empty():
    memory = Memory(None, budget_bytes=0, shared_bytes=0, label_bytes=1).with_classes([np.arange(9)])
    assert (len(memory.rows), memory.num_bytes) == (0, 0)


@pytest.mark.parametrize(("num_classes", "expected"), [(2, 1), (256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_bytes_of_a_label(num_classes, expected):
    assert label_bytes(num_classes) == expected
