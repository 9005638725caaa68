"""A token dataset as `datasets` sees it."""

import sys

import pytest

from seit_ray.shards import TokenDataset
from seit_ray.shards.hugging_face import hugging_face
from tests.tiny_dataset import write_dataset


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_the_rows_are_those_of_the_split(tmp_path, encoding):
    pytest.importorskip("datasets")
    folder = write_dataset(tmp_path, encoding=encoding)
    found = hugging_face(folder.uri, "train")
    rows = TokenDataset(folder).read_split("train")
    assert [row["key"] for row in found] == rows.meta["key"].to_pylist()
    assert [row["label"] for row in found] == rows.meta["label"].to_pylist()
    assert [list(row["tokens"]) for row in found] == rows.tokens.tolist()
    assert found.features["label"].names == TokenDataset(folder).info.class_names
    assert found.n_shards == len(TokenDataset(folder).split("train").shards)


def test_rows_without_labels(tmp_path):
    pytest.importorskip("datasets")
    folder = write_dataset(tmp_path, num_classes=0)
    assert {row["label"] for row in hugging_face(folder, "val")} == {None}


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install datasets"):
        hugging_face(write_dataset(tmp_path), "train")
