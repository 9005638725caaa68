"""Token columns: whatever goes in comes out, and nothing else is taken."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.shards.encoding import ENCODINGS, MAX_CODES, encoding_named

EACH = pytest.mark.parametrize("name", sorted(ENCODINGS))


@st.composite
def token_arrays(draw):
    """(tokens uint16 [N,L], K), the largest token often among them."""
    codes = draw(st.one_of(st.integers(1, MAX_CODES), st.sampled_from([1, 2, 255, 256, 257, 512, 65535, 65536])))
    shape = draw(st.integers(0, 9)), draw(st.integers(1, 40))
    tokens = np.random.default_rng(draw(st.integers(0, 999))).integers(codes, size=shape).astype(np.uint16)
    if tokens.size and draw(st.booleans()):
        tokens[-1, -1] = codes - 1
    return tokens, codes


@EACH
@given(case=token_arrays())
def test_round_trip(name, case):
    tokens, codes = case
    codec = ENCODINGS[name]
    column = codec.pack(tokens, codes)
    found = codec.unpack(column, tokens.shape[1], codes)
    assert len(column) == len(tokens)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, tokens)
    assert found.shape == tokens.shape


@given(case=token_arrays(), data=st.data())
def test_slices_of_columns_and_of_arrays(case, data):
    tokens, codes = case
    codec = ENCODINGS["plain"]
    start = data.draw(st.integers(0, len(tokens)))
    stop = data.draw(st.integers(start, len(tokens)))
    column = codec.pack(tokens, codes).slice(start, stop - start)
    np.testing.assert_array_equal(codec.unpack(column, tokens.shape[1], codes), tokens[start:stop])
    np.testing.assert_array_equal(
        codec.unpack(codec.pack(tokens[start:stop], codes), tokens.shape[1], codes), tokens[start:stop]
    )
    reversed_rows = tokens[::-1, ::-1]  # neither contiguous nor rising in memory
    np.testing.assert_array_equal(codec.unpack(codec.pack(reversed_rows, codes), tokens.shape[1], codes), reversed_rows)


@EACH
def test_round_trip_through_a_file(name):
    codec = ENCODINGS[name]
    tokens = np.random.default_rng(0).integers(391, size=(11, 1024)).astype(np.uint16)
    file = io.BytesIO()
    pq.write_table(pa.table({"tokens": codec.pack(tokens, 391)}), file)
    column = pq.read_table(file)["tokens"].combine_chunks()
    np.testing.assert_array_equal(codec.unpack(column, 1024, 391), tokens)


def test_plain_is_a_list_of_integers():
    tokens = np.array([[1, 2], [65535, 0]], np.uint16)
    assert ENCODINGS["plain"].pack(tokens, 65536).to_pylist() == [[1, 2], [65535, 0]]


@pytest.mark.parametrize(
    "rows",
    [[[1, 2, 3, 4, 5]], [[1, 2, 3]], [[1, 2, 3], [1, 2, 3, 4, 5]], [[1, 2, 3, 4], None], [[1, 2, 3, None]]],
)
def test_plain_rows_of_another_length_are_an_error(rows):
    with pytest.raises(ValueError, match="expected 4 a row"):
        ENCODINGS["plain"].unpack(pa.array(rows, pa.list_(pa.uint16())), 4, 16)


@EACH
@pytest.mark.parametrize(
    "column",
    [pa.array([1, 2]), pa.array(["ab"]), pa.array([[1.0] * 4]), pa.array([[1] * 4], pa.list_(pa.int64()))],
)
def test_columns_of_another_type_are_an_error(name, column):
    with pytest.raises(ValueError, match="token column"):
        ENCODINGS[name].unpack(column, 4, 16)


@pytest.mark.parametrize("name", ["zip", "planes", None])
def test_unknown_encoding_names_the_known_ones(name):
    with pytest.raises(ValueError, match=r"expected one of \['compact', 'plain'\]"):
        encoding_named(name)
