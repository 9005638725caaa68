"""Rows of several sources as one store."""

from functools import partial

import numpy as np
import pytest
import torch

from seit_ray.batches.batch import gather
from seit_ray.batches.joined import JoinedStore, Part
from seit_ray.batches.sampler import step_rows

TOKENS = np.arange(24, dtype=np.uint16).reshape(6, 4) + 65000
CPU = torch.device("cpu")


def part(rows, labels):
    return Part(partial(gather, TOKENS[rows]), np.array(labels))


def joined():
    return JoinedStore([part([0, 1, 2], [7, 7, 8]), part([], []), part([5, 4], [1, 2])])


def test_rows_come_from_where_they_are():
    store = joined()
    assert len(store) == 5
    batch = store.batch(np.array([3, 0, 4, 2]), CPU)
    assert batch.inputs.tolist() == TOKENS[[5, 0, 4, 2]].tolist()
    assert batch.labels.tolist() == [1, 7, 2, 8]
    assert store.batch(slice(1, 4), CPU).inputs.tolist() == TOKENS[[1, 2, 5]].tolist()
    assert store.host_batch(np.array([], np.int64)).inputs.shape == (0, 4)


def test_images_come_as_bytes():
    images = np.random.default_rng(0).integers(256, size=(3, 3, 2, 2)).astype(np.uint8)
    store = JoinedStore([Part(partial(gather, images), np.zeros(3, np.int64))])
    found = store.batch(slice(0, 3), CPU).inputs
    assert found.dtype == torch.uint8
    assert found.numpy().tolist() == images.tolist()


def test_steps_are_those_of_the_sampler():
    store = joined()
    assert store.step_rows(4, 3, 2).tolist() == step_rows(5, 4, 3, 2).tolist()
    assert store.in_order(5) is store
    with pytest.raises(ValueError, match="shuffled 3 rows at a time; expected all"):
        store.in_order(3)


def test_a_store_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        JoinedStore([part([], [])])
