"""Two token datasets of the same images as one store."""

import numpy as np
import pytest
import torch

from seit_ray.batches.decoded import DecodedSamples
from seit_ray.batches.paired import PairedStore, check_same_rows
from seit_ray.batches.store import TokenStore
from seit_ray.batches.stream import TokenStream
from seit_ray.shards.dataset import TokenDataset
from tests.tiny_dataset import tiny_tokenizer, write_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Two of 40 rows, of 4x4 and of 2x2 tokens; not to be changed."""
    place = tmp_path_factory.mktemp("pair")
    first = write_dataset(place / "first", sizes={"train": 40})
    second = write_dataset(place / "second", sizes={"train": 40}, side=2, rows_per_shard=7)
    return TokenDataset(first), TokenDataset(second)


def stores(datasets):
    return [TokenStore.read(dataset, "train", need_labels=False) for dataset in datasets]


def test_rows_have_the_second_tokens_behind_in_the_order_of_the_first(datasets):
    first, second = stores(datasets)
    paired = PairedStore(first, second)
    rows = paired.step_rows(16, 3, 1)
    assert rows.tolist() == first.step_rows(16, 3, 1).tolist()
    batch = paired.batch(rows, CPU)
    assert batch.inputs.shape == (16, 20)
    assert batch.inputs.numpy()[:, :16].tolist() == first.tokens[rows].tolist()
    assert batch.inputs.numpy()[:, 16:].tolist() == second.tokens[rows].tolist()
    assert batch.labels.tolist() == first.labels[rows].tolist() == paired.labels[rows].tolist()
    assert len(paired) == 40
    assert "with them 40 rows in memory" in paired.describe()


def test_a_stream_keeps_its_order(datasets):
    first, second = stores(datasets)
    streamed = TokenStream(datasets[0], "train", memory_bytes=1, shuffle_rows=20)
    paired = PairedStore(streamed, second)
    assert paired.shuffle_rows == 20
    other = paired.in_order(10)
    assert (other.shuffle_rows, other.second) == (10, second)
    rows = other.step_rows(8, 0, 0)
    assert rows.tolist() == streamed.in_order(10).step_rows(8, 0, 0).tolist()
    assert other.batch(rows, CPU).inputs[:, :16].tolist() == first.tokens[rows].tolist()


def test_other_images_are_refused(datasets, tmp_path, monkeypatch):
    first, second = datasets
    check_same_rows(first, second, "train")
    fewer = TokenDataset(write_dataset(tmp_path / "fewer", sizes={"train": 39}))
    with pytest.raises(ValueError, match=r"39 rows in split 'train' of .* expected the 40 of"):
        check_same_rows(first, fewer, "train")
    with pytest.raises(ValueError, match="0 rows in split 'val'"):
        check_same_rows(TokenDataset(write_dataset(tmp_path / "both", sizes={"train": 4, "val": 4})), second, "val")
    folder = write_dataset(tmp_path / "others", sizes={"train": 40})
    others = TokenDataset(folder)
    read = others.read_columns
    monkeypatch.setattr(others, "read_columns", lambda *names: read(*names)[::-1])
    with pytest.raises(
        ValueError, match=r"row 0 of split 'train' is .* tokenise the same images, with the same rejects"
    ):
        check_same_rows(first, others, "train")


def test_tokens_are_decoded_on_their_way():
    tokenizer = tiny_tokenizer(patch_size=4)
    tokens = np.arange(32, dtype=np.uint16).reshape(2, 16) % 16
    store = DecodedSamples(TokenStore(tokens, np.array([3, 1])), tokenizer, (4, 4))
    batch = store.batch(slice(0, 2), CPU)
    assert torch.equal(batch.inputs, tokenizer.decode(torch.from_numpy(tokens.astype(np.int64))))
    assert (len(store), store.labels.tolist(), batch.labels.tolist()) == (2, [3, 1], [3, 1])
