"""Shards and tables of rejects as bytes."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seit_ray.shards.encoding import ROWS_PER_GROUP, encoding_named
from seit_ray.shards.parquet import (
    META,
    TokenRows,
    checksum,
    concat_rows,
    decode_shard,
    encode_rejected,
    encode_shard,
    token_column_bytes,
)
from tests.tiny_dataset import learnable_rows, reject_table

EACH = pytest.mark.parametrize("encoding", ["plain", "compact"])
SETTINGS = {"num_tokens": 16, "num_codes": 16}


def assert_same_rows(found, expected):
    """Equal tokens and columns."""
    assert found.tokens.dtype == np.uint16
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert found.tokens.shape == expected.tokens.shape
    assert found.meta.schema.names == list(META)
    assert found.meta.to_pylist() == expected.meta.to_pylist()


@EACH
@pytest.mark.parametrize("num", [0, 1, 50])
def test_shard_round_trip(encoding, num):
    rows = learnable_rows(num)
    data = encode_shard(rows, encoding=encoding, num_codes=16)
    assert_same_rows(decode_shard(data, encoding=encoding, **SETTINGS), rows)


@EACH
def test_shard_of_many_row_groups_and_missing_labels(encoding):
    rows = learnable_rows(ROWS_PER_GROUP + 3, num_classes=0)
    data = encode_shard(rows, encoding=encoding, num_codes=16)
    assert pq.ParquetFile(pa.BufferReader(data)).num_row_groups == -(
        -len(rows) // encoding_named(encoding).group_rows(16)
    )
    found = decode_shard(data, encoding=encoding, **SETTINGS)
    assert_same_rows(found, rows)
    assert found.meta["label"].null_count == len(rows)


@EACH
def test_same_rows_give_the_same_bytes(encoding):
    rows = learnable_rows(40)
    data = encode_shard(rows, encoding=encoding, num_codes=16)
    joined = concat_rows([rows.slice(0, 7), rows.slice(7, 8), rows.slice(8, 8), rows.slice(8, 40)])
    cut = concat_rows([learnable_rows(5, seed=9), rows, learnable_rows(5, seed=8)]).slice(5, 45)
    unordered = TokenRows(np.asfortranarray(rows.tokens), rows.meta)
    stored = decode_shard(data, encoding=encoding, **SETTINGS)
    for same in (joined, cut, unordered, stored):
        assert encode_shard(same, encoding=encoding, num_codes=16) == data
    assert encode_shard(rows.slice(0, 39), encoding=encoding, num_codes=16) != data


def test_any_parquet_reader_sees_plain_tokens():
    rows = learnable_rows(5)
    table = pq.read_table(pa.BufferReader(encode_shard(rows, encoding="plain", num_codes=16)))
    assert table["tokens"].to_pylist() == rows.tokens.tolist()
    assert table["key"].to_pylist() == rows.meta["key"].to_pylist()


def test_plain_tokens_take_little_more_than_the_entropy():
    tokens = np.random.default_rng(0).integers(391, size=(200, 1024)).astype(np.uint16)
    rows = TokenRows(tokens, learnable_rows(200).meta)
    data = encode_shard(rows, encoding="plain", num_codes=391)
    assert token_column_bytes(data) < 1.06 * tokens.size * np.log2(391) / 8
    assert 0 < token_column_bytes(data) < len(data)


@EACH
def test_token_column_bytes_are_of_all_row_groups(encoding):
    few, many = (learnable_rows(n) for n in (ROWS_PER_GROUP, 3 * ROWS_PER_GROUP))
    one, three = (token_column_bytes(encode_shard(r, encoding=encoding, num_codes=16)) for r in (few, many))
    assert three == pytest.approx(3 * one, rel=0.1 if encoding == "compact" else 0.02)  # which learns from more


@EACH
@pytest.mark.parametrize("data", [b"", b"PAR1", b"\x00" * 500, b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_garbage_is_no_shard(encoding, data):
    with pytest.raises(ValueError, match=r"^not a token shard \([^\n]*\); tokenise again$"):
        decode_shard(data, encoding=encoding, **SETTINGS)


@EACH
def test_other_parquet_is_no_shard(encoding):
    with pytest.raises(ValueError, match=r"not a token shard .*tokens"):
        decode_shard(encode_rejected(reject_table(3)), encoding=encoding, **SETTINGS)


def test_shard_of_another_encoding_or_grid_is_an_error():
    data = {e: encode_shard(learnable_rows(3), encoding=e, num_codes=16) for e in ("plain", "compact")}
    for written, read in itertools.permutations(data, 2):
        with pytest.raises(ValueError, match="token column"):
            decode_shard(data[written], encoding=read, **SETTINGS)
    for written in data:
        with pytest.raises(ValueError, match=r"token (column|block)"):
            decode_shard(data[written], encoding=written, num_tokens=17, num_codes=16)


@EACH
def test_shard_keeps_large_tokens_and_takes_any_layout(encoding):
    rows, settings = learnable_rows(4), {"num_tokens": 16, "num_codes": 65536}
    rows.tokens[:] = [[65535], [32768], [0], [32767]]
    backwards = TokenRows(rows.tokens[:, ::-1], rows.meta)  # each row is of one token
    for same in (rows, backwards):
        data = encode_shard(same, encoding=encoding, num_codes=65536)
        assert_same_rows(decode_shard(data, encoding=encoding, **settings), rows)


def test_rejected_keep_their_order():
    table = pa.concat_tables([reject_table(2, 5), reject_table(2)])
    found = pq.read_table(pa.BufferReader(encode_rejected(table)))
    assert found.to_pylist() == table.to_pylist()
    assert encode_rejected(found) == encode_rejected(table)


def test_checksum_is_sha256():
    assert checksum(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_slices_and_joins_of_rows():
    rows = learnable_rows(9)
    assert len(rows) == 9
    middle = rows.slice(3, 5)
    assert middle.meta["key"].to_pylist() == ["image-000003.jpg", "image-000004.jpg"]
    np.testing.assert_array_equal(middle.tokens, rows.tokens[3:5])
    assert_same_rows(concat_rows([rows.slice(0, 4), rows.slice(4, 9)]), rows)
