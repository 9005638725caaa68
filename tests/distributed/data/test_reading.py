"""Tokens and images in people's own Ray Data pipelines."""

import numpy as np
import pytest
import ray

from seit_ray.distributed.data.reading import read_tokens
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.tokenizers.batches import TokenizeBatch
from tests.distributed.data.jobs import run
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_files, write_files, write_tokenizer


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_a_token_dataset_is_a_ray_dataset(ray_cluster, tmp_path, encoding):
    folder = write_dataset(tmp_path, encoding=encoding)
    data = read_tokens(folder.uri, "train")
    rows = TokenDataset(folder).read_split("train")
    found = sorted(data.take_all(), key=lambda row: row["key"])
    assert [row["key"] for row in found] == rows.meta["key"].to_pylist()
    assert [row["label"] for row in found] == rows.meta["label"].to_pylist()
    assert [row["tokens"].tolist() for row in found] == rows.tokens.tolist()
    assert data.map_batches(lambda batch: {"sum": batch["tokens"].sum(axis=1)}).sum("sum") == rows.tokens.sum()


def test_the_tokenizer_in_a_pipeline_gives_the_tokens_of_the_job(ray_cluster, tmp_path):
    files = image_files(30)
    source, tokenizer = write_files(tmp_path / "images", files), write_tokenizer(tmp_path / "tokenizer")
    dataset = run(ray_cluster, source, tokenizer, Folder(tmp_path / "tokens"), val_fraction=0.0)
    rows = dataset.read_split("train")
    expected = dict(zip(rows.meta["key"].to_pylist(), rows.tokens.tolist(), strict=True))
    data = ray.data.read_binary_files(source.uri, include_paths=True, file_extensions=["png"])
    data = data.map_batches(
        TokenizeBatch,
        fn_constructor_args=(tokenizer.uri,),
        fn_constructor_kwargs={"column": "bytes"},
        batch_size=8,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    found = {row["path"].removeprefix(f"{source.uri}/"): row["tokens"].tolist() for row in data.take_all()}
    assert found == expected
    assert np.array(list(found.values())).dtype.kind == "i"
