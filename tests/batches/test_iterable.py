"""A token dataset for torch's DataLoader: each row once, whatever the readers."""

import pytest
import torch
from torch.utils.data import DataLoader

from seit_ray.batches.iterable import TokenIterable
from seit_ray.shards import TokenDataset
from tests.tiny_dataset import write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 95}, rows_per_shard=10, encoding="compact")


@pytest.fixture(scope="module")
def rows(folder):
    found = TokenDataset(folder).read_split("train")
    return dict(
        zip(
            found.meta["key"].to_pylist(),
            zip(found.meta["label"].to_pylist(), found.tokens.tolist(), strict=True),
            strict=True,
        )
    )


def test_rows_as_stored(folder, rows):
    found = list(TokenIterable(folder.uri, "train"))
    assert [row["key"] for row in found] == list(rows)
    assert [(row["label"], row["tokens"].tolist()) for row in found] == list(rows.values())
    assert found[0]["tokens"].dtype == torch.int64


@pytest.mark.parametrize(("workers", "world_size"), [(0, 1), (2, 1), (0, 3), (2, 2), (1, 7)])
def test_readers_share_the_rows(folder, rows, workers, world_size):
    keys = []
    for rank in range(world_size):
        samples = TokenIterable(folder, "train", seed=1, rank=rank, world_size=world_size)
        context = {"multiprocessing_context": "fork"} if workers else {}
        for batch in DataLoader(samples, batch_size=8, num_workers=workers, **context):
            keys += batch["key"]
            for key, label, tokens in zip(batch["key"], batch["label"].tolist(), batch["tokens"].tolist(), strict=True):
                assert (label, tokens) == rows[key]
    assert sorted(keys) == sorted(rows)


def test_each_epoch_has_an_order_of_its_own(folder):
    samples = TokenIterable(folder, "train", seed=3)
    orders = []
    for epoch in (0, 1, 0):
        samples.set_epoch(epoch)
        orders.append([row["key"] for row in samples])
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != [row["key"] for row in TokenIterable(folder, "train", seed=4)]
    assert orders[0] != sorted(orders[0])


def test_rows_without_labels_and_mistakes(tmp_path):
    folder = write_dataset(tmp_path, num_classes=0)
    assert {row["label"] for row in TokenIterable(folder, "train")} == {-1}
    with pytest.raises(ValueError, match="rank 2 of 2; expected 0 to 1"):
        TokenIterable(folder, "train", rank=2, world_size=2)
    with pytest.raises(ValueError, match="split 'test'"):
        TokenIterable(folder, "test")
