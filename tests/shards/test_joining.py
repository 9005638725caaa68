"""Fragments -> shards: exact sizes, manifest order, nothing lost and nothing twice."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.shards.fragments import Fragment, list_fragments, write_fragment
from seit_ray.shards.joining import join_rejected, join_shard, plan_shards
from seit_ray.shards.parquet import checksum, concat_rows, decode_shard, encode_shard
from seit_ray.storage import Folder
from tests.tiny_dataset import learnable_rows, reject_table

SETTINGS = {"encoding": "planes", "num_tokens": 16, "num_codes": 16, "num_classes": 4}


@given(st.lists(st.integers(0, 30), max_size=25), st.integers(1, 40))
def test_plan_has_exact_sizes_keeps_order_and_loses_nothing(counts, rows_per_shard):
    fragments = [Fragment("train", index, rows, 1) for index, rows in enumerate(counts)]
    shards = plan_shards(fragments, rows_per_shard)
    sizes = [sum(p.stop - p.start for p in pieces) for pieces in shards]
    assert sizes[:-1] == [rows_per_shard] * (len(sizes) - 1)
    assert len(shards) == -(-sum(counts) // rows_per_shard)
    planned = [(p.fragment.slice, row) for pieces in shards for p in pieces for row in range(p.start, p.stop)]
    assert planned == [(index, row) for index, rows in enumerate(counts) for row in range(rows)]
    assert all(p.start < p.stop for pieces in shards for p in pieces)


def write_fragments(folder, counts):
    """Fragments of those numbers of rows, one reject each; and all rows."""
    rows = learnable_rows(sum(counts))
    starts = np.cumsum([0, *counts])
    for index, (start, stop) in enumerate(itertools.pairwise(starts)):
        write_fragment(folder, "train", index, rows.slice(start, stop), reject_table(1, index))
    return list(list_fragments(folder)["train"].values()), rows


@pytest.mark.parametrize("rows_per_shard", [1, 4, 5, 23, 100])
@pytest.mark.parametrize("encoding", ["planes", "plain", "compact"])
def test_shards_hold_what_the_fragments_hold(tmp_path, rows_per_shard, encoding):
    work, output = Folder(tmp_path / "work"), Folder(tmp_path / "out")
    fragments, rows = write_fragments(work, [7, 0, 9, 1, 6])
    found, made = [], []
    for index, pieces in enumerate(plan_shards(fragments, rows_per_shard)):
        settings = {**SETTINGS, "encoding": encoding}
        made.append(join_shard(pieces, index=index, fragments=work, output=output, **settings))
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
    assert [p.shard.rows for p in made[:-1]] == [rows_per_shard] * (len(made) - 1)
    sums = [sum(getattr(p, name) for p in made) for name in ("histogram", "label_counts", "source_bytes")]
    assert sums[0].tolist() == np.bincount(rows.tokens.ravel(), minlength=16).tolist()
    assert sums[1].tolist() == np.bincount(rows.meta["label"].to_numpy(), minlength=4).tolist()
    assert sums[2] == sum(rows.meta["source_bytes"].to_pylist())


def test_bytes_do_not_depend_on_how_rows_lay_in_fragments(tmp_path):
    data = []
    for name, counts in (("a", [10]), ("b", [3, 0, 7]), ("c", [1] * 10)):
        work, output = Folder(tmp_path / name), Folder(tmp_path / name / "out")
        fragments, rows = write_fragments(work, counts)
        (pieces,) = plan_shards(fragments, 10)
        join_shard(pieces, index=0, fragments=work, output=output, **SETTINGS)
        data.append(output.read("train/shard-00000.parquet"))
    assert data[0] == data[1] == data[2] == encode_shard(rows, encoding="planes", num_codes=16)


def test_unlabelled_rows_have_no_label_counts(tmp_path):
    folder = Folder(tmp_path)
    fragment = write_fragment(folder, "train", 0, learnable_rows(4, num_classes=0), reject_table(0))
    settings = {**SETTINGS, "num_classes": 0}
    made = join_shard(plan_shards([fragment], 4)[0], index=0, fragments=folder, output=folder, **settings)
    assert made.label_counts.tolist() == []
    partly = learnable_rows(4)
    partly.meta = partly.meta.set_column(1, "label", pa.array([3, None, 1, None], pa.int32()))
    fragment = write_fragment(folder, "train", 1, partly, reject_table(0))
    made = join_shard(plan_shards([fragment], 4)[0], index=1, fragments=folder, output=folder, **SETTINGS)
    assert made.label_counts.tolist() == [0, 1, 0, 1]


def test_a_token_beyond_the_codebook_is_an_error(tmp_path):
    folder = Folder(tmp_path)
    fragments, _ = write_fragments(folder, [5])
    settings = {**SETTINGS, "num_codes": 15}
    with pytest.raises(ValueError, match="token 15; expected below 15"):
        join_shard(plan_shards(fragments, 9)[0], index=0, fragments=folder, output=folder, **settings)


def test_rejected_are_written_in_manifest_order(tmp_path):
    work, output = Folder(tmp_path / "work"), Folder(tmp_path / "out")
    for index, rejected in enumerate([0, 3, 2, 0]):
        write_fragment(work, "val", index, learnable_rows(2), reject_table(rejected, 10 * index))
    fragments = list(list_fragments(work)["val"].values())
    mark = join_rejected("val", fragments, work, output, 16)
    data = output.read("val/rejected.parquet")
    assert mark == checksum(data)
    keys = pq.read_table(pa.BufferReader(data))["key"].to_pylist()
    assert keys == ["bad-10.jpg", "bad-11.jpg", "bad-12.jpg", "bad-20.jpg", "bad-21.jpg"]
