"""The token dataset as a whole: reading, and every reason not to read it."""

import dataclasses
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from seit_ray.shards import TokenDataset
from seit_ray.shards.marker import DatasetInfo, content_checksum
from seit_ray.shards.parquet import concat_rows
from seit_ray.shards.statistics import entropy_bits
from seit_ray.storage import Folder
from tests.tiny_dataset import learnable_rows, write_dataset


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "tokens")


def remark(folder, change):
    """Write the marker again after `change(info)`, as a faulty writer would: with a right checksum."""
    info = TokenDataset(folder).info
    change(info)
    folder.write("dataset.json", info.to_json())


def refusal(folder):
    """The one line with which a folder is refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        TokenDataset(folder)
    assert "\n" not in str(caught.value)
    assert folder.uri in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_reads_what_was_written(tmp_path, encoding):
    dataset = TokenDataset(write_dataset(tmp_path, encoding=encoding))
    rows = learnable_rows(25)
    assert [len(part) for part in dataset.iter_shards("train")] == [10, 10, 5]
    for found in (dataset.read_split("train"), concat_rows(list(dataset.iter_shards("train")))):
        np.testing.assert_array_equal(found.tokens, rows.tokens)
        assert found.meta.to_pylist() == rows.meta.to_pylist()
    assert dataset.rejected("train").to_pylist() == [
        {"key": f"bad-{i}.jpg", "reason": f"no image: bad-{i}.jpg"} for i in range(2)
    ]


def test_counts_and_figures(folder):
    dataset = TokenDataset(folder)
    split = dataset.split("train")
    assert (split.listed, split.rows, split.rejected) == (27, 25, 2)
    assert split.file_bytes == sum(len(folder.read(f"train/{s.name}")) for s in split.shards)
    assert 0 < split.token_bytes < split.file_bytes
    assert dataset.info.num_tokens == 16
    tokens = np.concatenate([dataset.read_split(name).tokens for name in ("train", "val")])
    histogram = np.bincount(tokens.ravel(), minlength=16)
    assert dataset.histogram().tolist() == histogram.tolist()
    assert dataset.entropy_bytes() == pytest.approx(entropy_bits(histogram) * 16 / 8)


def test_without_rejects_there_is_no_file_of_them(tmp_path):
    dataset = TokenDataset(write_dataset(tmp_path, num_rejected=0))
    assert [e.name for e in dataset.folder.list() if "rejected" in e.name] == []
    assert dataset.split("train").rejects == []
    assert len(dataset.rejected("train")) == 0
    assert dataset.rejected("train").column_names == ["key", "reason"]


def test_an_altered_table_of_rejects_is_refused(folder):
    dataset = TokenDataset(folder)
    path = "train/rejected-00001.parquet"
    folder.write(path, folder.read("train/rejected-00000.parquet"))
    with pytest.raises(ValueError, match=r"train/rejected-00001.parquet has a wrong checksum; .*restore it"):
        dataset.rejected("train")
    folder.delete(path)
    with pytest.raises(ValueError, match=r"train/rejected-00001.parquet does not exist"):
        dataset.rejected("train")


def test_marker_round_trip(folder):
    info = TokenDataset(folder).info
    again = DatasetInfo.from_json(info.to_json(), "here")
    assert again == info
    assert again.to_json() == info.to_json() == folder.read("dataset.json")


def test_the_same_dataset_gives_the_same_bytes(folder, tmp_path):
    other = write_dataset(tmp_path / "again")
    names = [entry.name for entry in folder.list()]
    assert len(names) == 11
    assert [entry.name for entry in other.list()] == names
    for name in names:
        assert folder.read(name) == other.read(name)


def test_unknown_split_names_the_known_ones(folder):
    dataset = TokenDataset(folder)
    for read in (dataset.split, dataset.read_split, dataset.rejected, lambda s: list(dataset.iter_shards(s))):
        with pytest.raises(ValueError, match=r"split 'test' of .*; expected one of \['train', 'val'\]"):
            read("test")


def test_empty_split(tmp_path):
    dataset = TokenDataset(write_dataset(tmp_path, sizes={"train": 3, "val": 0}))
    assert list(dataset.iter_shards("val")) == []
    assert dataset.rejected("val").num_rows == dataset.split("val").listed == 2
    with pytest.raises(ValueError, match=r"split 'val' of .* is empty; expected at least one image"):
        dataset.read_split("val")


def test_missing_marker(folder):
    folder.delete("dataset.json")
    assert "expected dataset.json; see tokenize_images" in refusal(folder)


def test_unfinished_folder(tmp_path):
    folder = Folder(tmp_path)
    folder.write("_work/plan.json", b"{}")
    assert "has begun but not finished: run it again" in refusal(folder)


def test_missing_folder(tmp_path):
    assert "does not exist" in refusal(Folder(tmp_path / "nowhere"))


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe\x00", b"null", b"[]", b"{}", b'"text"', b'{"splits": {}}'])
def test_garbage_in_the_marker(folder, garbage):
    folder.write("dataset.json", garbage)
    assert "dataset.json cannot be read" in refusal(folder)


def test_newer_format_says_so_whatever_else_it_holds(folder):
    values = json.loads(folder.read("dataset.json"))
    folder.write("dataset.json", json.dumps({**values, "format_version": 3, "modality": "video"}).encode())
    assert "format version 3; expected 2, as it was written by a newer version; update seit_ray" in refusal(folder)


def test_older_format_asks_to_tokenise_again(folder):
    values = json.loads(folder.read("dataset.json"))
    folder.write("dataset.json", json.dumps({**values, "format_version": 1}).encode())
    assert refusal(folder).endswith("has format version 1; expected 2; tokenise again")


def test_fields_that_are_not_known_are_passed_over(folder):
    info = TokenDataset(folder).info
    values = json.loads(folder.read("dataset.json"))
    del values["sha256"]
    values["modality"] = "video"
    values["splits"]["train"]["seconds"] = 3
    values["splits"]["train"]["shards"][0]["frames"] = 7
    folder.write("dataset.json", json.dumps({**values, "sha256": content_checksum(values)}).encode())
    assert TokenDataset(folder).info == info


def test_what_was_left_out_is_kept(folder):
    info = TokenDataset(folder).info
    assert (info.left_out, info.notes) == ({}, [])
    told = dataclasses.replace(info, left_out={".heic": 2}, notes=["one class in all"])
    assert DatasetInfo.from_json(told.to_json(), "here") == told


def test_altered_marker(folder):
    values = json.loads(folder.read("dataset.json"))
    folder.write("dataset.json", json.dumps({**values, "class_names": ["a", "b", "c", "d"]}).encode())
    assert "wrong checksum" in refusal(folder)
    folder.write("dataset.json", json.dumps(values).encode())  # laid out anew, but the same content
    assert TokenDataset(folder).info.class_names == [f"class {i}" for i in range(4)]


@pytest.mark.parametrize(
    "change",
    [
        lambda split: setattr(split, "listed", 26),
        lambda split: setattr(split, "rejected", 3),
        lambda split: setattr(split, "rows", 24),
        lambda split: (setattr(split, "rows", 26), setattr(split, "rejected", 1)),
        lambda split: setattr(split.shards[0], "rows", 9),
        lambda split: split.shards.pop(),
        lambda split: setattr(split.rejects[0], "rows", 2),
        lambda split: split.rejects.pop(),
    ],
)
def test_counts_must_add_up(folder, change):
    remark(folder, lambda info: change(info.splits["train"]))
    assert "split train: 2" in refusal(folder)
    assert "expected counts that add up" in refusal(folder)


def test_every_checksum_is_verified_before_a_row_is_used(folder):
    dataset = TokenDataset(folder)
    path = "train/shard-00001.parquet"
    data = folder.read(path)
    folder.write(path, folder.read("train/shard-00000.parquet"))
    parts = dataset.iter_shards("train")
    assert len(next(parts)) == 10
    with pytest.raises(ValueError, match=r"shard-00001.parquet has a wrong checksum \(\d+ bytes; expected \d+\)"):
        next(parts)
    folder.write(path, data)
    assert len(dataset.read_split("train")) == 25
    folder.delete(path)
    with pytest.raises(ValueError, match=r"shard-00001.parquet does not exist"):
        dataset.read_split("train")


def test_shard_of_another_number_of_rows(folder):
    dataset = TokenDataset(folder)
    shard = dataclasses.replace(dataset.split("train").shards[0], rows=11)
    with pytest.raises(ValueError, match="holds 10 rows; expected 11"):
        dataset.read_shard("train", shard)


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_labels_and_keys_are_read_without_tokens(tmp_path, monkeypatch, encoding):
    options = {"rows_per_shard": 3000, "side": 16, "num_codes": 200, "encoding": encoding}
    folder = write_dataset(tmp_path, sizes={"train": 6000}, **options)
    dataset, read, open_file = TokenDataset(folder), [], Folder.open

    class Counted(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            read.append(len(data))
            return data

    def counted(folder, name):
        with open_file(folder, name) as file:
            return Counted(file.read())

    monkeypatch.setattr(Folder, "open", counted)
    for shard in dataset.split("train").shards:
        table = dataset.read_columns("train", shard, ["key", "label"])
        expected = dataset.read_shard("train", shard).meta
        assert table.column_names == ["key", "label"]
        assert table.to_pylist() == expected.select(["key", "label"]).to_pylist()
    assert sum(read) < 0.2 * sum(shard.bytes for shard in dataset.split("train").shards)


def test_a_flipped_bit_of_a_column_is_found(tmp_path):
    folder = write_dataset(tmp_path, sizes={"train": 50}, rows_per_shard=50)
    dataset = TokenDataset(folder)
    (shard,) = dataset.split("train").shards
    data, damaged = folder.read("train/shard-00000.parquet"), 0
    (label,) = [
        group.column(i)
        for group in [pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)]
        for i in range(group.num_columns)
        if group.column(i).path_in_schema == "label"
    ]
    start = label.dictionary_page_offset
    for place in range(start, start + label.total_compressed_size):
        folder.write("train/shard-00000.parquet", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            found = dataset.read_columns("train", shard, ["label"])
        except ValueError:
            damaged += 1
            continue
        assert found.num_rows == 50  # a bit of a page's header that nobody reads
    assert damaged > 0.6 * label.total_compressed_size
