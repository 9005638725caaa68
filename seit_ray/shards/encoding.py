"""Column encodings of tokens: a registry of (pack, unpack). Shapes: N rows, L tokens a row, K codes.

`planes`  fixed-size binary: the L low bytes of a row, then its high bits packed 8 to a byte, bit by bit from the
          lowest (ceil(log2 K) - 8 planes of ceil(L/8) bytes, most significant bit first). Nothing when K <= 256.
`plain`   list<uint16>, dictionary-encoded: any Parquet reader sees integers.
`compact` entropy-coded with the neighbours of a token as its context, in blocks of rows: see `compact`. The smallest,
          and the slowest to read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from seit_ray.shards.compact import block_rows, pack_compact, unpack_compact

MAX_CODES = 1 << 16
ROWS_PER_GROUP = 4096  # a row group of 1024-token rows is about 4 MB: one read, and zstd has enough to learn from


class Encoding(NamedTuple):
    """How a token column is written and read back."""

    pack: Callable[[np.ndarray, int], pa.Array]  # (tokens uint16 [N,L], K) -> column
    unpack: Callable[[pa.Array, int, int], np.ndarray]  # (column, L, K) -> tokens uint16 [N,L]
    dictionary: bool  # whether Parquet's dictionary encoding helps
    group_rows: Callable[[int], int] = lambda num_tokens: ROWS_PER_GROUP  # L -> rows of a Parquet row group


def high_bits(num_codes: int) -> int:
    """Bits of a token above its low byte."""
    return max(0, (num_codes - 1).bit_length() - 8)


def row_bytes(num_tokens: int, num_codes: int) -> int:
    """Bytes of a row in the planes encoding."""
    return num_tokens + high_bits(num_codes) * -(-num_tokens // 8)


def pack_planes(tokens: np.ndarray, num_codes: int) -> pa.Array:
    """uint16 [N,L] -> fixed-size binary column."""
    planes = [tokens.astype(np.uint8)]
    for bit in range(8, 8 + high_bits(num_codes)):
        planes.append(np.packbits((tokens >> bit & 1).astype(bool), axis=1))
    rows = np.ascontiguousarray(np.concatenate(planes, axis=1))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, pa.py_buffer(rows)])


def unpack_planes(column: pa.Array, num_tokens: int, num_codes: int) -> np.ndarray:
    """The inverse of `pack_planes`; ValueError when the width of a row is wrong."""
    width = row_bytes(num_tokens, num_codes)
    if column.type != pa.binary(width):
        raise ValueError(f"token column {column.type}; expected {pa.binary(width)} for {num_tokens} tokens")
    rows = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width :][: len(column) * width]
    rows = rows.reshape(len(column), width)
    tokens = rows[:, :num_tokens].astype(np.uint16)
    plane = -(-num_tokens // 8)
    for i in range(high_bits(num_codes)):
        packed = rows[:, num_tokens + i * plane : num_tokens + (i + 1) * plane]
        tokens |= np.unpackbits(packed, axis=1, count=num_tokens).astype(np.uint16) << (8 + i)
    return tokens


def pack_plain(tokens: np.ndarray, num_codes: int) -> pa.Array:
    """uint16 [N,L] -> list<uint16> column."""
    del num_codes  # integers say themselves what they are
    offsets = np.arange(0, tokens.size + 1, tokens.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(tokens).ravel()))


def unpack_plain(column: pa.Array, num_tokens: int, num_codes: int) -> np.ndarray:
    """The inverse of `pack_plain`; ValueError when a row has another length."""
    del num_codes
    if column.type != pa.list_(pa.uint16()):
        raise ValueError(f"token column {column.type}; expected list<uint16> of {num_tokens} tokens")
    lengths, values = np.diff(column.offsets.to_numpy()), column.flatten()
    if (lengths != num_tokens).any() or values.null_count:
        raise ValueError(
            f"token column of rows of {sorted({*lengths.tolist()})} tokens, {values.null_count} missing; expected "
            f"{num_tokens} a row"
        )
    return values.to_numpy().reshape(-1, num_tokens)


ENCODINGS: dict[str, Encoding] = {
    "planes": Encoding(pack_planes, unpack_planes, dictionary=False),
    "plain": Encoding(pack_plain, unpack_plain, dictionary=True),
    "compact": Encoding(pack_compact, unpack_compact, dictionary=False, group_rows=block_rows),
}


def encoding_named(name: Any) -> Encoding:
    """The encoding of that name; ValueError names the known ones."""
    if name not in ENCODINGS:
        raise ValueError(f"token encoding {name!r}; expected one of {sorted(ENCODINGS)}; update seit_ray")
    return ENCODINGS[name]
