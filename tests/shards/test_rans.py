"""Range coding: what is written is read, in about as many bits as the entropy; damage is an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.shards.rans import LEVELS, START, LaneReader, encode_lanes, levels_of, slots_of, tables_of
from seit_ray.shards.statistics import entropy_bits


def coded(tables, table, symbols):
    """(states, words) of symbols [T,S], each by the table [T,S]."""
    entries = tables.entries[table, symbols]
    return encode_lanes(entries[::-1], tables, symbols.shape[1])


def read(tables, table, states, words):
    """The symbols [T,S] back."""
    reader = LaneReader(states, words, tables)
    found = [tables.symbols[reader.read(row.astype(np.int64) << tables.bits, len(row))] for row in table]
    reader.check_end()
    return np.array(found).reshape(table.shape)


def skewed(rng, num_tables, num_symbols, shape):
    """(table, symbols) of that shape; some symbols are frequent, some never occur."""
    chances = rng.dirichlet(np.full(num_symbols, 0.3), size=num_tables)
    table = rng.integers(num_tables, size=shape)
    drawn = [[rng.choice(num_symbols, p=chances[t]) for t in row] for row in table]
    return table, np.array(drawn, np.int64).reshape(shape)


def counts_of(table, symbols, num_tables, num_symbols):
    return np.bincount((table * num_symbols + symbols).ravel(), minlength=num_tables * num_symbols).reshape(
        num_tables, -1
    )


def test_levels_are_frequencies_near_each_other():
    assert LEVELS[:17].tolist() == list(range(17))
    assert LEVELS[-1] == 1 << 16
    assert (np.diff(LEVELS) > 0).all()
    assert (LEVELS[17:] / LEVELS[16:-1]).max() <= 1.125


@given(
    counts=st.lists(st.lists(st.integers(0, 10**9), min_size=5, max_size=5), min_size=1, max_size=4),
    bits=st.integers(3, 16),
)
def test_levels_of_counts_fit_and_lack_no_symbol(counts, bits):
    counts = np.array(counts)
    levels = levels_of(counts, bits)
    sums = LEVELS[levels].sum(1)
    assert levels.dtype == np.uint8
    assert (sums <= 1 << bits).all()
    assert ((levels > 0) == (counts > 0)).all()


@pytest.mark.parametrize("num_symbols", [1, 2, 3, 5, 7, 300, 391, 1000, 5000])
def test_levels_of_symbols_that_are_alike_waste_little(num_symbols):
    frequencies = LEVELS[levels_of(np.full((1, num_symbols), 7), 14)[0]]
    assert 14 - np.log2(frequencies).mean() <= 1.002 * np.log2(num_symbols)


@pytest.mark.parametrize("num_symbols", [1, 300, 65536])
def test_levels_when_every_slot_is_taken_or_nearly(num_symbols):
    counts = np.ones((1, num_symbols), np.int64)
    counts[0, 0] = 10**6
    levels = levels_of(counts, 16)
    assert LEVELS[levels].sum() <= 1 << 16
    assert levels.all()


@given(seed=st.integers(0, 999), bits=st.integers(6, 16), steps=st.integers(0, 20), lanes=st.integers(1, 9))
def test_round_trip(seed, bits, steps, lanes):
    rng = np.random.default_rng(seed)
    table, symbols = skewed(rng, 3, 20, (steps, lanes))
    tables = tables_of(levels_of(counts_of(table, symbols, 3, 20), bits), bits)
    states, words = coded(tables, table, symbols)
    assert (states.dtype, words.dtype) == (np.uint32, np.uint16)
    np.testing.assert_array_equal(read(tables, table, states, words), symbols)


def test_the_last_steps_may_have_fewer_lanes():
    tables = tables_of(levels_of(np.array([[5, 1, 3]]), 10), 10)
    steps = [np.array([0, 1, 2, 0]), np.array([2, 2]), np.array([1])]
    states, words = encode_lanes(steps[::-1], tables, 4)
    reader = LaneReader(states, words, tables)
    assert [reader.read(0, len(step)).tolist() for step in steps] == [step.tolist() for step in steps]
    reader.check_end()


@pytest.mark.parametrize("bits", [14, 16])
def test_the_size_is_near_the_entropy(bits):
    rng = np.random.default_rng(0)
    symbols = rng.choice(391, p=rng.dirichlet(np.ones(391)), size=(2000, 32))
    counts = np.bincount(symbols.ravel(), minlength=391)
    tables = tables_of(levels_of(counts[None], bits), bits)
    _, words = coded(tables, np.zeros_like(symbols), symbols)
    assert 16 * len(words) <= 1.01 * entropy_bits(counts) * symbols.size


def test_a_single_symbol_takes_no_bits():
    tables = tables_of(levels_of(np.array([[0, 7, 0]]), 14), 14)
    symbols = np.ones((500, 3), np.int64)
    states, words = coded(tables, np.zeros_like(symbols), symbols)
    assert len(words) == 0
    assert states.tolist() == [START] * 3


def test_slots_are_those_of_the_frequencies():
    tables = tables_of(np.array([[2, 0, 1], [0, 4, 0]], np.uint8), 2)
    assert slots_of(tables).tolist() == [0, 0, 1, 3, 2, 2, 2, 2]  # 3: of none
    assert tables.symbols.tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize(("levels", "bits"), [([[3, 2]], 2), ([[113]], 16), ([[1]], 0), ([[1]], 17), ([[255]], 16)])
def test_levels_that_are_no_frequencies_are_an_error(levels, bits):
    with pytest.raises(ValueError, match="expected"):
        tables_of(np.array(levels, np.uint8), bits)


def test_damage_is_an_error():
    rng = np.random.default_rng(3)
    table, symbols = skewed(rng, 2, 20, (200, 4))
    tables = tables_of(levels_of(counts_of(table, symbols, 2, 20), 12), 12)
    states, words = coded(tables, table, symbols)
    flipped, moved = words.copy(), states.copy()
    flipped[3] ^= 1
    moved[0] += 1
    for damaged in ((states, words[:-1]), (states, np.append(words, 0)), (states, flipped), (moved, words)):
        with pytest.raises(ValueError, match="damaged"):
            read(tables, table, *damaged)
