"""Rows of a store as tensors."""

import numpy as np
import pytest
import torch

from seit_ray.batches.store import TokenStore

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def store_of(tokens):
    tokens = np.array(tokens, np.uint16)
    return TokenStore(tokens, np.arange(len(tokens), dtype=np.int64) * 10 - 10)


@pytest.mark.parametrize("device", DEVICES)
def test_every_16_bit_token_survives(device):
    store = store_of(np.arange(65536).reshape(256, 256))
    rows = np.random.default_rng(0).permutation(256)
    batch = store.batch(rows, torch.device(device))
    assert batch.inputs.device.type == batch.labels.device.type == device
    assert batch.inputs.dtype == batch.labels.dtype == torch.int64
    assert batch.inputs.tolist() == store.tokens[rows].tolist()
    assert batch.labels.tolist() == store.labels[rows].tolist()
    assert (batch.inputs.min(), batch.inputs.max()) == (0, 65535)


@pytest.mark.parametrize(
    "rows", [np.array([2, 0, 2]), np.arange(3)[::-1], np.array([], np.int64), slice(1, 3), slice(0, 3)]
)
def test_rows_and_slices(rows):
    store = store_of([[1, 40000], [2, 50000], [3, 60000]])
    batch = store.batch(rows, torch.device("cpu"))
    assert batch.inputs.tolist() == store.tokens[rows].tolist()
    assert batch.labels.tolist() == store.labels[rows].tolist()


def test_changing_a_batch_leaves_the_store_as_it_is():
    store = store_of([[1, 40000], [2, 50000], [3, 60000]])
    for rows in (np.array([0, 1]), slice(0, 2)):
        batch = store.batch(rows, torch.device("cpu"))
        batch.inputs.zero_()
    assert store.tokens.tolist() == [[1, 40000], [2, 50000], [3, 60000]]
