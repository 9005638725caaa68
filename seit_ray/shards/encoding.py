"""Column encodings of tokens: a registry of (pack, unpack). Shapes: N rows, L tokens a row, K codes.

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
    "plain": Encoding(pack_plain, unpack_plain, dictionary=True),
    "compact": Encoding(pack_compact, unpack_compact, dictionary=False, group_rows=block_rows),
}


def encoding_named(name: Any) -> Encoding:
    """The encoding of that name; ValueError names the known ones."""
    if name not in ENCODINGS:
        raise ValueError(f"token encoding {name!r}; expected one of {sorted(ENCODINGS)}; update seit_ray")
    return ENCODINGS[name]
