"""Rates measured on a sample."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from seit_ray.images import decode_image
from seit_ray.report.rates import CHUNK, measure_rates
from seit_ray.shards.parquet import TokenRows, encode_shard, token_column_bytes
from seit_ray.storage import Folder, StorageError
from seit_ray.tokenizers.files import load_tokenizer
from tests.tiny_dataset import learnable_rows
from tests.tiny_images import image_files, write_files, write_tokenizer


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(write_tokenizer(tmp_path / "tokenizer", num_codes=300))[0]


def listed(source, names):
    uris, unknown = [source.uri_of(name) for name in names], pa.nulls(len(names))
    return pa.table({"key": names, "uri": uris, "version": unknown, "size_bytes": unknown})


def test_an_image_that_stays_away_is_not_measured(tmp_path, tokenizer, monkeypatch):
    source = write_files(tmp_path / "images", image_files(4))
    slept, read_uris = [], Folder.read_uris
    monkeypatch.setattr("seit_ray.images.reading.time.sleep", slept.append)
    monkeypatch.setattr("seit_ray.images.reading.time.monotonic", lambda: float(sum(slept)))

    def answer(folder, uris, **more):
        contents = read_uris(folder, uris, **more)
        return [
            StorageError("gone", "unavailable") if "00001" in uri else c for uri, c in zip(uris, contents, strict=True)
        ]

    monkeypatch.setattr(Folder, "read_uris", answer)
    assert measure_rates(listed(source, list(image_files(4))), source, tokenizer).images == 3


def shard_bytes(tokenizer, images):
    """Bytes an image that a shard of these images takes for tokens."""
    settings = {"image_size": tokenizer.image_size, "resize": tokenizer.resize}
    pixels = torch.from_numpy(np.stack([decode_image(data, **settings).pixels for data in images]))
    tokens = tokenizer.encode(pixels).numpy().astype(np.uint16)
    rows = TokenRows(tokens, learnable_rows(len(tokens)).meta)
    return token_column_bytes(encode_shard(rows, encoding="plain", num_codes=300)) / len(tokens)


def test_every_step_is_measured_over_the_images_that_can_be_read(tmp_path, tokenizer):
    files = image_files(CHUNK + 10)
    source = write_files(tmp_path / "images", files | {"cat/bad.png": b"bad"})
    threads, seen = torch.get_num_threads(), []
    names = ["cat/bad.png", *files]
    found = measure_rates(listed(source, names), source, tokenizer, on_progress=lambda *state: seen.append(state))
    assert found.images == len(files)
    assert found.image_bytes == pytest.approx(sum(map(len, files.values())) / len(files))
    assert found.packed_bytes == pytest.approx(shard_bytes(tokenizer, files.values()), rel=0.05)
    rates = found.rates
    assert min(rates.fetch_mb_per_s, rates.decode_per_core, rates.encode_per_core) > 0
    assert (rates.encode_per_gpu, found.device) == (None, "cpu")
    assert seen == [("measure", CHUNK, CHUNK + 11, "images"), ("measure", CHUNK + 11, CHUNK + 11, "images")]
    assert torch.get_num_threads() == threads


def test_nothing_to_measure(tmp_path, tokenizer):
    source = write_files(tmp_path / "images", {"a.png": b"bad"})
    with pytest.raises(ValueError, match=r"none of 1 images in .* can be read; expected images; check the source"):
        measure_rates(listed(source, ["a.png"]), source, tokenizer)


def test_a_storage_that_fails_is_an_error(tokenizer, s3_server):
    source = Folder("s3://no-such-bucket", **s3_server.credentials)
    with pytest.raises(StorageError, match="bucket that does not exist"):
        measure_rates(listed(source, ["a.png"]), source, tokenizer)
