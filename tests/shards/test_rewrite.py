"""A dataset rewritten holds the same images: other encodings, other shards, fewer codes."""

import numpy as np
import pytest
import torch

from seit_ray.shards import TokenDataset, rewrite
from seit_ray.shards.rewrite import rewrite_dataset
from seit_ray.shards.synonyms import read_synonyms, write_synonyms
from seit_ray.shards.verify import verify
from seit_ray.shards.writing import write_shard
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from tests.shards.published_files import ring_synonyms
from tests.tiny_dataset import write_dataset


@pytest.fixture
def dataset(tmp_path):
    """25 + 8 rows in shards of 10, of 16 codes, with rejects."""
    return TokenDataset(write_dataset(tmp_path / "tokens"))


@pytest.mark.parametrize("encoding", [None, "plain", "compact"])
@pytest.mark.parametrize("rows_per_shard", [None, 1, 7, 10, 100])
def test_the_rows_stay(dataset, tmp_path, encoding, rows_per_shard):
    output = Folder(tmp_path / "new")
    info = rewrite_dataset(dataset, output, encoding=encoding, rows_per_shard=rows_per_shard)
    new = TokenDataset(output)
    assert info.encoding == new.info.encoding == (encoding or "plain")
    assert verify(new) == []
    for name in ("train", "val"):
        old_rows, new_rows = dataset.read_split(name), new.read_split(name)
        np.testing.assert_array_equal(new_rows.tokens, old_rows.tokens)
        assert new_rows.meta.equals(old_rows.meta)
        assert new.rejected(name).equals(dataset.rejected(name))
        split = new.split(name)
        assert split.listed == dataset.split(name).listed
        expected = [rows_per_shard] * (split.rows // (rows_per_shard or 1))
        if rows_per_shard:
            assert [s.rows for s in split.shards][: len(expected)] == expected
    assert new.info.tokenizer == dataset.info.tokenizer


def test_unused_codes_go_and_images_decode_alike(tmp_path):
    folder = write_dataset(tmp_path / "tokens", num_codes=400, num_classes=4)
    old = TokenDataset(folder)
    used = int((old.histogram() > 0).sum())
    assert used < 400  # this dataset leaves codes unused
    write_synonyms(folder, ring_synonyms(400, 3))
    output = Folder(tmp_path / "new")
    info = rewrite_dataset(old, output, drop_unused=True)
    new = TokenDataset(output)
    assert info.codebook_size == used
    assert verify(new) == []
    assert (new.histogram() > 0).all()
    assert new.info.tokenizer != old.info.tokenizer
    assert read_synonyms(output) is None
    before, after = (load_tokenizer(f.join("tokenizer"))[0] for f in (folder, output))
    pictures = [
        tokenizer.decode(torch.from_numpy(dataset.read_split("train").tokens.astype(np.int64)))
        for tokenizer, dataset in ((before, old), (after, new))
    ]
    assert torch.equal(*pictures)


def test_synonyms_come_along_while_the_codes_stay(dataset, tmp_path):
    write_synonyms(dataset.folder, ring_synonyms(16, 3))
    rewrite_dataset(dataset, Folder(tmp_path / "new"), encoding="plain")
    assert read_synonyms(Folder(tmp_path / "new")).tolist() == ring_synonyms(16, 3).tolist()


def test_the_same_again_is_left_and_another_refused(dataset, tmp_path):
    output = Folder(tmp_path / "new")
    rewrite_dataset(dataset, output, encoding="plain")
    before = {entry.name: output.read(entry.name) for entry in output.list()}
    rewrite_dataset(dataset, output, encoding="plain")
    assert {entry.name: output.read(entry.name) for entry in output.list()} == before
    with pytest.raises(ValueError, match="holds another token dataset"):
        rewrite_dataset(dataset, output, encoding="compact")
    with pytest.raises(ValueError, match="neither of them in the other"):
        rewrite_dataset(dataset, dataset.folder, encoding="plain")


def test_cut_short_it_continues_by_the_same_plan_alone(dataset, tmp_path, monkeypatch):
    output = Folder(tmp_path / "new")
    write = Folder.write

    def cut(folder, name, data):
        if name == "dataset.json":
            raise KeyboardInterrupt
        write(folder, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            rewrite_dataset(dataset, output, rows_per_shard=1)
    with pytest.raises(ValueError, match="holds the beginning of another token dataset"):
        rewrite_dataset(dataset, output, rows_per_shard=10)
    rewrite_dataset(dataset, output, rows_per_shard=1)
    assert verify(TokenDataset(output)) == []
    assert not output.exists("_work/plan.json")


def test_files_of_others_stay_where_they_are(dataset, tmp_path):
    """Whatever their names look like; a folder that holds some is refused before anything is written."""
    output = Folder(tmp_path / "new")
    output.write("train/shard-000123.tar", b"mine")
    with pytest.raises(ValueError, match=r"holds train/shard-000123\.tar, which this program did not write there"):
        rewrite_dataset(dataset, output, encoding="plain")
    assert [entry.name for entry in output.list(include_hidden=True)] == ["train/shard-000123.tar"]
    output.delete("train/shard-000123.tar")
    rewrite_dataset(dataset, output, encoding="plain")
    output.write("train/shard-000123.tar", b"mine")
    rewrite_dataset(dataset, output, encoding="plain")
    assert output.read("train/shard-000123.tar") == b"mine"


def test_a_damaged_shard_is_not_copied(dataset, tmp_path):
    name = f"train/{dataset.split('train').shards[1].name}"
    data = bytearray(dataset.folder.read(name))
    data[len(data) // 2] ^= 1
    dataset.folder.write(name, bytes(data))
    with pytest.raises(ValueError, match="wrong checksum"):
        rewrite_dataset(dataset, Folder(tmp_path / "new"), encoding="plain")
    assert not Folder(tmp_path / "new").exists("dataset.json")


def test_a_damaged_table_of_rejects_is_not_copied(dataset, tmp_path):
    name = f"train/{dataset.split('train').rejects[0].name}"
    data = bytearray(dataset.folder.read(name))
    data[len(data) // 2] ^= 1
    dataset.folder.write(name, bytes(data))
    with pytest.raises(ValueError, match=r"rejected-\d+\.parquet has a wrong checksum"):
        rewrite_dataset(dataset, Folder(tmp_path / "new"), encoding="plain")


def test_shards_that_stand_are_not_written_again(dataset, tmp_path, monkeypatch):
    output, calls = Folder(tmp_path / "new"), []

    def write(rows, **how):
        calls.append((how["split"], how["index"]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return write_shard(rows, **how)

    monkeypatch.setattr(rewrite, "write_shard", write)
    with pytest.raises(KeyboardInterrupt):
        rewrite_dataset(dataset, output, rows_per_shard=5)
    rewrite_dataset(dataset, output, rows_per_shard=5)
    assert calls == [("train", index) for index in (0, 1, 2, 3, 3, 4)] + [("val", 0), ("val", 1)]
    assert verify(TokenDataset(output)) == []
    assert not (tmp_path / "new" / "_work").exists()
