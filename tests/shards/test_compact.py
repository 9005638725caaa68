"""The compact encoding: small, and whole or refused."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.shards import compact
from seit_ray.shards.compact import HEADER, block_rows, pack_compact, parse_block, unpack_compact
from seit_ray.shards.encoding import ENCODINGS
from seit_ray.shards.parquet import TokenRows, encode_shard, token_column_bytes
from seit_ray.shards.statistics import code_histogram, entropy_bits
from tests.shards.test_context import pictures
from tests.tiny_dataset import learnable_rows


@st.composite
def token_arrays(draw):
    """(tokens uint16 [N,L], K) with all kinds of distributions, with structure or without."""
    codes = draw(st.one_of(st.integers(1, 1 << 16), st.sampled_from([1, 2, 256, 391, 4096, 65536])))
    rows, num_tokens = draw(st.integers(0, 60)), draw(st.integers(1, 100))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    kind = draw(st.sampled_from(["uniform", "skewed", "single", "few", "smooth"]))
    shape = (rows, num_tokens)
    if kind == "single":
        tokens = np.full(shape, rng.integers(codes))
    elif kind == "smooth":
        tokens = (np.cumsum(rng.integers(-1, 2, size=shape), axis=1) + rng.integers(codes)) % codes
    else:
        tokens = rng.integers(min(codes, 5) if kind == "few" else codes, size=shape)
        tokens = tokens * (rng.random(shape) < 0.1) if kind == "skewed" else tokens
    return tokens.astype(np.uint16), codes


@given(case=token_arrays())
def test_round_trip(case):
    tokens, codes = case
    column = pack_compact(tokens, codes)
    np.testing.assert_array_equal(unpack_compact(column, tokens.shape[1], codes), tokens)
    assert pack_compact(np.asfortranarray(tokens), codes).equals(column)


def test_the_largest_codebook_in_full():
    tokens = np.random.default_rng(0).permutation(np.repeat(np.arange(1 << 16, dtype=np.uint16), 2)).reshape(-1, 64)
    column = pack_compact(tokens, 1 << 16)
    np.testing.assert_array_equal(unpack_compact(column, 64, 1 << 16), tokens)


@pytest.mark.parametrize("size", [1, 7, 20])
def test_many_blocks(monkeypatch, size):
    monkeypatch.setattr(compact, "BLOCK_TOKENS", size * 16)
    tokens = learnable_rows(41).tokens
    column = pack_compact(tokens, 16)
    cells = [len(cell) > 0 for cell in column.to_pylist()]
    assert cells == [row % size == 0 for row in range(41)]
    np.testing.assert_array_equal(unpack_compact(column, 16, 16), tokens)
    np.testing.assert_array_equal(unpack_compact(column.slice(size, size), 16, 16), tokens[size : 2 * size])


@pytest.mark.parametrize("lanes", [1, 3, 1000])
def test_any_number_of_lanes(monkeypatch, lanes):
    monkeypatch.setattr(compact, "MAX_LANES", lanes)
    monkeypatch.setattr(compact, "LANE_TOKENS", 1)
    tokens = learnable_rows(41).tokens
    np.testing.assert_array_equal(unpack_compact(pack_compact(tokens, 16), 16, 16), tokens)


def test_near_the_entropy_without_structure_and_below_it_with():
    rng = np.random.default_rng(0)
    alone = rng.choice(391, p=rng.dirichlet(np.full(391, 1.5)), size=(1500, 1024)).astype(np.uint16)
    for tokens, ratio in ((alone, 1.01), (pictures(1500, (16, 16), num_codes=391), 0.7)):
        rows = TokenRows(tokens, learnable_rows(len(tokens)).meta)
        size = {e: token_column_bytes(encode_shard(rows, encoding=e, num_codes=391)) for e in ENCODINGS}
        assert size["compact"] <= ratio * entropy_bits(code_histogram(tokens, 391)) * tokens.size / 8
        assert size["compact"] < size["plain"]


def test_a_row_group_is_a_block():
    assert block_rows(1024) == 16384
    assert block_rows(1 << 25) == 1


def test_a_part_of_a_block_is_an_error():
    column = pack_compact(learnable_rows(10).tokens, 16)
    with pytest.raises(ValueError, match="starts inside a block; expected its first row; read whole row groups"):
        unpack_compact(column.slice(1, 9), 16, 16)
    with pytest.raises(ValueError, match="block of 10 rows in 9; expected whole blocks"):
        unpack_compact(column.slice(0, 9), 16, 16)
    with pytest.raises(ValueError, match="1 missing; expected blocks"):
        unpack_compact(pa.concat_arrays([column, pa.nulls(1, column.type)]), 16, 16)


@pytest.mark.parametrize(("num_tokens", "codes"), [(17, 16), (8, 16), (16, 15), (16, 391)])
def test_tokens_of_another_dataset_are_an_error(num_tokens, codes):
    with pytest.raises(ValueError, match=f"expected {num_tokens} tokens of {codes} codes"):
        unpack_compact(pack_compact(learnable_rows(10).tokens, 16), num_tokens, codes)


def test_damage_is_an_error_or_is_not_seen():
    """Whatever byte changes: ValueError, or tokens of the right shape below K (the shard's checksum tells those)."""
    tokens = pictures(300, (8, 8), num_codes=16)
    data = pack_compact(tokens, 16)[0].as_py()
    assert len(parse_block(pa.py_buffer(data), 64, 16).tables.frequencies) > 1
    rng, seen = np.random.default_rng(0), 0
    places = [*range(60), *range(60, len(data), 17)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        try:
            found = unpack_compact(pa.array([bytes(changed), *[b""] * 299], pa.large_binary()), 64, 16)
            assert found.shape == tokens.shape
            assert found.max() < 16
        except ValueError:
            seen += 1
    assert seen > 0.7 * len(places)


@given(data=st.binary(min_size=1, max_size=200), head=st.lists(st.integers(0, 40), min_size=8, max_size=8))
def test_garbage_is_an_error(data, head):
    head[1:3] = 16, 16
    for garbage in (data, np.array(head, "<u4").tobytes() + data):
        with pytest.raises(ValueError, match=r"expected|damaged"):
            unpack_compact(pa.array([garbage, *[b""] * 3], pa.large_binary()), 16, 16)


def test_cut_short():
    data = pack_compact(learnable_rows(40).tokens, 16)[0].as_py()
    for length in (1, 4 * len(HEADER), len(data) - 2, len(data) - 1):
        with pytest.raises(ValueError, match=r"expected|damaged"):
            unpack_compact(pa.array([data[:length], *[b""] * 39], pa.large_binary()), 16, 16)
