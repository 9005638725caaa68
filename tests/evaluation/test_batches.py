"""Splits in chunks: each sample once, whatever the number of ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.batches.store import TokenStore
from seit_ray.evaluation.batches import eval_batches
from seit_ray.training.world import World
from tests.tiny_trainers import damaged


def store_of(num):
    return TokenStore(np.arange(num * 2, dtype=np.uint16).reshape(num, 2), np.arange(num, dtype=np.int64))


def chunks_of(num, batch_size, rank=0, size=1):
    world = World(rank, size, torch.device("cpu"))
    return [
        (chunk, rows, b.inputs.tolist(), b.labels.tolist())
        for chunk, rows, b in eval_batches(store_of(num), batch_size, world)
    ]


@given(num=st.integers(1, 50), batch_size=st.integers(1, 20), size=st.integers(1, 6))
def test_ranks_see_the_same_chunks_as_one_process_would(num, batch_size, size):
    alone = chunks_of(num, batch_size)
    dealt = [chunk for rank in range(size) for chunk in chunks_of(num, batch_size, rank, size)]
    assert sorted(dealt, key=lambda chunk: chunk[0]) == alone
    assert [label for *_, labels in alone for label in labels] == list(range(num))


def test_chunks_say_which_rows_they_are():
    found = chunks_of(5, 2)
    assert [(chunk, rows) for chunk, rows, *_ in found] == [
        (0, slice(0, 2)),
        (1, slice(2, 4)),
        (2, slice(4, 5)),
    ]
    assert found[2][2:] == ([[8, 9]], [4])


@pytest.mark.parametrize("rank", [3, 4])
def test_a_rank_may_have_nothing_to_do(rank):
    assert chunks_of(5, 2, rank, 5) == []


def test_chunks_are_without_what_cannot_be_read():
    """Their rows keep the numbers of the split, whatever the number of ranks; a chunk of nothing is none."""
    store, cpu = damaged(store_of(10), [0, 1, 2, 5]), torch.device("cpu")
    found = list(eval_batches(store, 3, World(device=cpu)))
    assert [chunk for chunk, *_ in found] == [1, 2, 3]
    assert [np.arange(10)[rows].tolist() for _, rows, _ in found] == [[3, 4], [6, 7, 8], [9]]
    assert found[1][1] == slice(6, 9)
    assert [batch.labels.tolist() for *_, batch in found] == [[3, 4], [6, 7, 8], [9]]
    dealt = [chunk for rank in range(3) for chunk, *_ in eval_batches(store, 3, World(rank, 3, cpu))]
    assert sorted(dealt) == [1, 2, 3]
