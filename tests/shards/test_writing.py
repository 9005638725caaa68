"""Rows -> shards and tables of rejects: names, counts and sums, nothing lost and nothing twice."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seit_ray.shards.marker import RejectFile
from seit_ray.shards.parquet import checksum, concat_rows, decode_shard, encode_rejected, encode_shard
from seit_ray.shards.writing import rejected_name, shard_name, split_of, write_rejects, write_shard
from seit_ray.storage import Folder
from tests.tiny_dataset import learnable_rows, reject_table

SIZES = {"num_codes": 16, "num_classes": 4}


def write(folder, rows, index=0, encoding="plain", **sizes):
    return write_shard(rows, split="train", index=index, output=folder, encoding=encoding, **SIZES | sizes)


def test_names():
    assert (shard_name(3), rejected_name(3)) == ("shard-00003.parquet", "rejected-00003.parquet")
    assert shard_name(1_234_567) == "shard-1234567.parquet"


@pytest.mark.parametrize("rows_per_shard", [1, 4, 5, 23, 100])
@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_shards_hold_the_rows(tmp_path, rows_per_shard, encoding):
    output, rows = Folder(tmp_path), learnable_rows(23)
    found, made = [], []
    for index, start in enumerate(range(0, 23, rows_per_shard)):
        made.append(write(output, rows.slice(start, min(23, start + rows_per_shard)), index, encoding))
        shard = made[-1].shard
        data = output.read(f"train/{shard.name}")
        assert (shard.name, shard.bytes, shard.sha256) == (
            f"shard-{index:05d}.parquet",
            len(data),
            checksum(data),
        )
        assert 0 < shard.token_bytes < shard.bytes
        found.append(decode_shard(data, encoding=encoding, num_tokens=16, num_codes=16))
        assert len(found[-1]) == shard.rows
    whole = concat_rows(found)
    np.testing.assert_array_equal(whole.tokens, rows.tokens)
    assert whole.meta.to_pylist() == rows.meta.to_pylist()
    rejects = [RejectFile("rejected-00000.parquet", 2, "ab"), RejectFile("rejected-00003.parquet", 3, "cd")]
    split = split_of(made, rejects=rejects, **SIZES)
    assert (split.listed, split.rows, split.rejected) == (28, 23, 5)
    assert split.shards == [p.shard for p in made]
    assert split.rejects == rejects
    assert split.file_names == [p.shard.name for p in made] + ["rejected-00000.parquet", "rejected-00003.parquet"]
    assert split.code_histogram == np.bincount(rows.tokens.ravel(), minlength=16).tolist()
    assert split.label_counts == np.bincount(rows.meta["label"].to_numpy(), minlength=4).tolist()
    assert split.source_bytes == sum(rows.meta["source_bytes"].to_pylist())


def test_a_split_of_nothing():
    split = split_of([], **SIZES)
    assert (split.listed, split.rows, split.rejected, split.shards, split.rejects) == (0, 0, 0, [], [])
    assert (split.code_histogram, split.label_counts) == ([0] * 16, [0] * 4)


def test_bytes_do_not_depend_on_how_rows_lay_in_memory(tmp_path):
    rows, data = learnable_rows(10), []
    for name, cuts in (("a", [0, 10]), ("b", [0, 3, 3, 10]), ("c", list(range(11)))):
        output = Folder(tmp_path / name)
        pieces = [rows.slice(start, stop) for start, stop in itertools.pairwise(cuts)]
        write(output, concat_rows(pieces))
        data.append(output.read("train/shard-00000.parquet"))
    assert data[0] == data[1] == data[2] == encode_shard(rows, encoding="plain", num_codes=16)


def test_unlabelled_rows_have_no_label_counts(tmp_path):
    folder = Folder(tmp_path)
    made = write(folder, learnable_rows(4, num_classes=0), num_classes=0)
    assert made.label_counts.tolist() == []
    partly = learnable_rows(4)
    partly.meta = partly.meta.set_column(1, "label", pa.array([3, None, 1, None], pa.int32()))
    assert write(folder, partly, 1).label_counts.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_a_token_beyond_the_codebook_is_an_error(tmp_path, encoding):
    with pytest.raises(ValueError, match="token 15; expected below 15"):
        write(Folder(tmp_path), learnable_rows(5), encoding=encoding, num_codes=15)


def test_rejects_are_written_in_their_order(tmp_path):
    output = Folder(tmp_path)
    table = pa.concat_tables([reject_table(3, 10), reject_table(2)])
    file = write_rejects(table, "val", rejected_name(7), output)
    data = output.read("val/rejected-00007.parquet")
    assert file == RejectFile("rejected-00007.parquet", 5, checksum(data), len(data))
    assert data == encode_rejected(table.combine_chunks())
    keys = pq.read_table(pa.BufferReader(data))["key"].to_pylist()
    assert keys == ["bad-10.jpg", "bad-11.jpg", "bad-12.jpg", "bad-0.jpg", "bad-1.jpg"]
