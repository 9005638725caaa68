"""Range coding in many lanes at once (rANS: Duda, arXiv 1311.2540, section 3; interleaved: Giesen, arXiv 1402.3392).

A lane's state starts at 2^16 and gives or takes a word of 16 bits where it would leave [2^16, 2^32). A step codes one
symbol in every lane, so that numpy works on lanes, never on single symbols; the lanes share one stream of words, in
the order in which a reader asks for them. Shapes: G tables of K symbols, E entries (pairs of a table and a symbol that
it holds, numbered table by table), S lanes, M of them in a step (the first ones).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

START = 1 << 16  # a lane's state before its first symbol is written, and so after its last one is read
MAX_BITS = 16
# A frequency is stored in a byte, as a small float: exact to 15, then 3 bits behind the leading one. That is 6 % off at
# most and costs 0.1 % of the bytes; exact frequencies would take more than they save.
LEVELS = np.array([b if b < 16 else (8 + (b & 7)) << ((b >> 3) - 1) for b in range(113)], np.int64)  # 0 to 2^16
_WORD, _LOW = np.uint32(16), np.uint32(0xFFFF)


class Tables(NamedTuple):
    """Frequencies of the symbols; what a table's symbols leave free of its 2^bits slots is never written."""

    bits: int
    frequencies: np.ndarray  # int64 [G,K]
    entries: np.ndarray  # int32 [G,K]: number of the pair; E where a table lacks the symbol
    symbols: np.ndarray  # uint16 [E+1], as the next two; the last one, of no symbol, is 0
    widths: np.ndarray  # uint32 [E+1]: frequency
    starts: np.ndarray  # uint32 [E+1]: sum of the frequencies before it in its table


def tables_of(levels: np.ndarray, bits: int) -> Tables:
    """The tables of levels uint8 [G,K]; ValueError when they are no frequencies out of 2^bits."""
    if not 1 <= bits <= MAX_BITS or levels.max() >= len(LEVELS):
        raise ValueError(f"level {levels.max()}, {bits} bits; expected below {len(LEVELS)}, 1 to {MAX_BITS} bits")
    frequencies = LEVELS[levels]
    sums = np.cumsum(frequencies, axis=1)
    if sums[:, -1].max() > 1 << bits:
        raise ValueError(f"frequencies of sum {sums[:, -1].max()}; expected at most {1 << bits}")
    held = np.nonzero(frequencies)
    entries = np.full(frequencies.shape, len(held[0]), np.int32)
    entries[held] = np.arange(len(held[0]))
    widths, starts = (np.append(x[held], 0).astype(np.uint32) for x in (frequencies, sums - frequencies))
    return Tables(bits, frequencies, entries, np.append(held[1], 0).astype(np.uint16), widths, starts)


def levels_of(counts: np.ndarray, bits: int) -> np.ndarray:
    """Levels uint8 [G,K] for counts int64 [G,K] of at most 2^bits symbols: sums near 2^bits, none for a count of 0."""
    between = (LEVELS[1:] + LEVELS[:-1]) / 2

    def scaled(scales: np.ndarray) -> np.ndarray:
        levels = np.searchsorted(between, counts * scales[:, None], side="right")
        return np.where((levels == 0) & (counts > 0), 1, levels)

    low, high = np.zeros(len(counts)), 1.125 * (1 << bits) / np.maximum(counts.sum(1), 1)
    for _ in range(12):  # halvings: to 0.03 %
        middle = (low + high) / 2
        fits = LEVELS[scaled(middle)].sum(1) <= 1 << bits
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    levels = scaled(low)
    # What is left of the slots goes to those that gain most by one: counts that are alike must not all be below.
    frequencies = LEVELS[levels]
    costs = np.where(counts > 0, LEVELS[np.minimum(levels + 1, len(LEVELS) - 1)] - frequencies, 1 << bits)
    order = np.argsort(-(counts / np.maximum(frequencies, 1)), axis=1, kind="stable")
    spent = np.cumsum(np.take_along_axis(costs, order, axis=1), axis=1)
    raised = (spent <= (1 << bits) - frequencies.sum(1, keepdims=True)) & (
        np.take_along_axis(counts, order, axis=1) > 0
    )
    np.put_along_axis(levels, order, np.take_along_axis(levels, order, axis=1) + raised, axis=1)
    return np.minimum(levels, len(LEVELS) - 1).astype(np.uint8)


def encode_lanes(steps: Iterable[np.ndarray], tables: Tables, num_lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Entries int [M] of each step, the last step first -> (states uint32 [S], words uint16 [W])."""
    states, written = np.full(num_lanes, START, np.uint32), []
    bits = np.uint32(tables.bits)
    for entries in steps:
        state, width = states[: len(entries)], tables.widths[entries]
        full = state >> np.uint32(32 - tables.bits) >= width
        written.append((state[full] & _LOW).astype(np.uint16))
        state = np.where(full, state >> _WORD, state)
        quotient = state // width
        states[: len(entries)] = (quotient << bits) + (state - quotient * width) + tables.starts[entries]
    return states, np.concatenate([np.zeros(0, np.uint16), *written[::-1]])


class LaneReader:
    """Reads entries back, step by step; each reader reads once."""

    def __init__(self, states: np.ndarray, words: np.ndarray, tables: Tables):
        self.states, self.words, self.position = states.astype(np.uint32), words.astype(np.uint32), 0
        self.tables, self.slots = tables, slots_of(tables)
        self.bits, self.mask = np.uint32(tables.bits), np.uint32((1 << tables.bits) - 1)

    def read(self, first_slots: np.ndarray | int, num_lanes: int) -> np.ndarray:
        """Entries int64 [M] of a step; first_slots [M]: number of each lane's table, times 2^bits."""
        state = self.states[:num_lanes]
        slot = state & self.mask
        entries = self.slots[slot + first_slots].astype(np.int64)  # int64, as numpy indexes fastest
        state >>= self.bits
        state *= self.tables.widths[entries]
        state += slot
        state -= self.tables.starts[entries]
        short = np.flatnonzero(state < START)
        words = self.words[self.position : self.position + len(short)]
        if len(words) < len(short):
            raise ValueError(f"{len(self.words)} words; expected more; the bytes are damaged")
        state[short] = (state[short] << _WORD) | words
        self.position += len(words)
        return entries

    def check_end(self) -> None:
        """ValueError unless all was read and every lane is where its writer began."""
        if self.position < len(self.words) or (self.states != START).any():
            raise ValueError(
                f"{self.position} of {len(self.words)} words read, {(self.states != START).sum()} lanes that do not "
                "end where they began; the bytes are damaged"
            )


def slots_of(tables: Tables) -> np.ndarray:
    """Entry of each slot of each table [G * 2^bits], E in free ones."""
    free = (1 << tables.bits) - tables.frequencies.sum(1, keepdims=True)
    counts = np.concatenate([tables.frequencies, free], axis=1)
    owners = np.concatenate([tables.entries, np.full_like(free, len(tables.symbols) - 1)], axis=1)
    kind = np.uint16 if len(tables.symbols) <= 1 << 16 else np.uint32  # half the cache
    return np.repeat(owners.ravel().astype(kind), counts.ravel())
