"""The compact encoding: blocks of rows, each token coded by the frequencies of tokens with such neighbours.

Rows of a column come in blocks; the first row of a block holds its bytes, the others are empty. A block, in little
endian: HEADER as uint32; classes uint8 [K]; groups uint8 [C,C]; levels uint8 [G,K]; states uint32 [S]; words uint16.
Row r is read by lane r % S; the lanes read their first rows token by token, then their next rows. See `context` for
which table a token has, `rans` for levels, states and words. Shapes: N rows, L tokens, K codes, C classes, G tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seit_ray.shards.context import Context, fit_context
from seit_ray.shards.rans import MAX_BITS, LaneReader, Tables, encode_lanes, levels_of, tables_of

HEADER = ("rows", "num_tokens", "num_codes", "width", "bits", "num_classes", "num_groups", "num_lanes")
BLOCK_TOKENS = 1 << 24
LANE_TOKENS = 1024  # at least, where there are so many: a lane's state takes 4 bytes
MAX_LANES = 4096  # what numpy does at a time stays in the nearest cache


class Block(NamedTuple):
    """The parts of a block."""

    rows: int
    context: Context
    tables: Tables
    states: np.ndarray  # uint32 [S]
    words: np.ndarray  # uint16 [W]


def block_rows(num_tokens: int) -> int:
    """Rows of every block of a column but the last."""
    return max(1, BLOCK_TOKENS // num_tokens)


def pack_compact(tokens: np.ndarray, num_codes: int) -> pa.Array:
    """uint16 [N,L] -> binary column of blocks."""
    cells = [b""] * len(tokens)
    size = block_rows(tokens.shape[1])
    for start in range(0, len(tokens), size):
        cells[start] = encode_block(tokens[start : start + size], num_codes)
    return pa.array(cells, pa.large_binary())


def unpack_compact(column: pa.Array, num_tokens: int, num_codes: int) -> np.ndarray:
    """The inverse of `pack_compact`; ValueError for other bytes, and for a part of a block."""
    if column.type not in (pa.binary(), pa.large_binary()) or column.null_count:
        raise ValueError(
            f"token column {column.type}, {column.null_count} missing; expected blocks of {num_tokens} tokens a row"
        )
    lengths = pc.binary_length(column).to_numpy()
    starts = np.flatnonzero(lengths)
    if len(column) and (not len(starts) or starts[0]):
        raise ValueError("token column that starts inside a block; expected its first row; read whole row groups")
    tokens = np.empty((len(column), num_tokens), np.uint16)
    for start, stop in itertools.pairwise([*starts.tolist(), len(column)]):
        block = parse_block(column[start].as_buffer(), num_tokens, num_codes)
        if block.rows != stop - start:
            raise ValueError(f"token block of {block.rows} rows in {stop - start}; expected whole blocks")
        decode_block(block, tokens[start:stop])
    return tokens


def encode_block(tokens: np.ndarray, num_codes: int) -> bytes:
    """A block of tokens uint16 [N,L]; the same tokens give the same bytes."""
    context, counts = fit_context(tokens, num_codes)
    bits = min(MAX_BITS, max(14, (num_codes - 1).bit_length() + 2))
    levels = levels_of(counts, bits)
    tables = tables_of(levels, bits)
    num_lanes = min(len(tokens), MAX_LANES, max(1, tokens.size // LANE_TOKENS))
    states, words = encode_lanes(steps_backwards(tokens, context, tables, num_lanes), tables, num_lanes)
    shape = (*tokens.shape, num_codes, context.width, bits, len(context.groups), len(levels), num_lanes)
    parts = (np.array(shape, "<u4"), context.classes, context.groups, levels, states.astype("<u4"), words.astype("<u2"))
    return b"".join(part.tobytes() for part in parts)


def steps_backwards(tokens: np.ndarray, context: Context, tables: Tables, num_lanes: int) -> Iterator[np.ndarray]:
    """Entries of what the lanes read at once, the last step first."""
    groups = context.groups.ravel()
    for start in reversed(range(0, len(tokens), num_lanes)):
        rows = tokens[start : start + num_lanes]
        entries = tables.entries[groups[context.pairs(rows)], rows]
        yield from np.ascontiguousarray(entries.T)[::-1]


def parse_block(data: pa.Buffer, num_tokens: int, num_codes: int) -> Block:
    """The parts of a block's bytes; ValueError unless they are one, of so many tokens a row and codes."""
    head = np.frombuffer(data, "<u4", min(len(HEADER), data.size // 4)).astype(int).tolist()
    rows, length, codes, width, bits, num_classes, num_groups, num_lanes = head + [0] * (len(HEADER) - len(head))
    sizes = (codes, num_classes**2, num_groups * codes, 4 * num_lanes)
    offset = 4 * len(HEADER)
    rest = data.size - offset - sum(sizes)
    if (length, codes) != (num_tokens, num_codes) or not 0 < num_lanes <= rows or rest < 0 or rest % 2:
        raise ValueError(
            f"token block of {data.size} bytes, {rows} rows of {length} tokens of {codes} codes; expected {num_tokens} "
            f"tokens of {num_codes} codes, whole; take the dataset's own shard"
        )
    classes, groups, levels, states = (
        np.frombuffer(data, np.uint8, size, offset + sum(sizes[:i])) for i, size in enumerate(sizes)
    )
    words = np.frombuffer(data, "<u2", rest // 2, offset + sum(sizes))
    if not (0 < width <= length and num_groups > 0 and classes.max() < num_classes and groups.max() < num_groups):
        raise ValueError(f"token block with wrong classes or groups (width {width}); the bytes are damaged")
    context = Context(width, classes, groups.reshape(num_classes, num_classes))
    return Block(rows, context, tables_of(levels.reshape(num_groups, codes), bits), states.view("<u4"), words)


def decode_block(block: Block, tokens: np.ndarray) -> None:
    """Fill tokens uint16 [N,L]; ValueError when the block's bytes are damaged."""
    context, tables = block.context, block.tables
    reader = LaneReader(block.states, block.words, tables)
    num_classes, width = len(context.groups), context.width
    first_slots = context.groups.ravel().astype(np.int64) << tables.bits
    classes = context.classes[tables.symbols].astype(np.int64)  # of each entry
    for start in range(0, len(tokens), len(block.states)):
        rows = tokens[start : start + len(block.states)]
        entries = np.empty(rows.shape[::-1], reader.slots.dtype)
        line = np.zeros((width, len(rows)), np.int64)  # classes of the last `width` tokens
        for place in range(rows.shape[1]):
            column = place % width
            pairs = line[column]  # class above
            if column:
                pairs += line[column - 1] * num_classes  # in place: it is overwritten below
            found = reader.read(first_slots[pairs], len(rows))
            entries[place] = found
            line[column] = classes[found]
        if entries.size and entries.max() >= len(tables.symbols) - 1:
            raise ValueError("token block with a symbol that its table lacks; the bytes are damaged")
        rows[:] = tables.symbols[entries].T
    reader.check_end()
