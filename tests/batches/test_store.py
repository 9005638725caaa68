"""A split in memory."""

import numpy as np
import pytest

from seit_ray.batches.store import TokenStore
from seit_ray.shards import TokenDataset
from tests.tiny_dataset import learnable_rows, write_dataset


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_holds_the_rows_of_all_shards_in_order(tmp_path, encoding):
    dataset = TokenDataset(write_dataset(tmp_path, encoding=encoding))
    store = TokenStore.read(dataset, "train", need_labels=True)
    rows = learnable_rows(25)
    assert len(store) == 25
    assert (store.tokens.dtype, store.labels.dtype) == (np.uint16, np.int64)
    np.testing.assert_array_equal(store.tokens, rows.tokens)
    np.testing.assert_array_equal(store.labels, rows.meta["label"].to_numpy())
    assert store.tokens.nbytes == 25 * 16 * 2


def test_rows_without_label_are_minus_one_or_an_error(tmp_path):
    dataset = TokenDataset(write_dataset(tmp_path, num_classes=0))
    assert TokenStore.read(dataset, "train", need_labels=False).labels.tolist() == [-1] * 25
    with pytest.raises(ValueError, match=r"split 'train' of .* has 25 of 25 images without a label"):
        TokenStore.read(dataset, "train", need_labels=True)


def test_empty_and_unknown_splits_are_errors(tmp_path):
    dataset = TokenDataset(write_dataset(tmp_path, sizes={"train": 3, "val": 0}))
    with pytest.raises(ValueError, match=r"split 'val' of .* is empty; expected at least one image"):
        TokenStore.read(dataset, "val", need_labels=False)
    with pytest.raises(ValueError, match="split 'test'"):
        TokenStore.read(dataset, "test", need_labels=False)


def test_a_damaged_shard_is_an_error(tmp_path):
    folder = write_dataset(tmp_path)
    folder.write("train/shard-00002.parquet", b"damaged")
    with pytest.raises(ValueError, match=r"shard-00002.parquet has a wrong checksum"):
        TokenStore.read(TokenDataset(folder), "train", need_labels=False)
