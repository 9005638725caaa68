"""Rows of tokens as Parquet bytes: shards, and the tables of what was rejected beside them.

`TokenRows` is the one in-memory form of rows. Shapes: N rows, L tokens.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.shards.encoding import encoding_named

META = {
    "key": pa.string(),
    "label": pa.int32(),
    "width": pa.int32(),
    "height": pa.int32(),
    "source_bytes": pa.int64(),
}
MASK = "mask"  # one column more in a dataset of pairs: the label map as PNG, in its own size
REJECTED_SCHEMA = pa.schema({"key": pa.string(), "reason": pa.string()})


@dataclass
class TokenRows:
    """tokens uint16 [N,L] and, row by row, what the source gave (the columns of META, and MASK of pairs)."""

    tokens: np.ndarray
    meta: pa.Table

    def __len__(self) -> int:
        return len(self.tokens)

    def slice(self, start: int, stop: int) -> TokenRows:
        """Rows start to stop."""
        return TokenRows(self.tokens[start:stop], self.meta.slice(start, stop - start))


def concat_rows(parts: list[TokenRows]) -> TokenRows:
    """Rows of several parts, in order."""
    return TokenRows(np.concatenate([p.tokens for p in parts]), pa.concat_tables([p.meta for p in parts]))


def encode_shard(rows: TokenRows, *, encoding: str, num_codes: int) -> bytes:
    """A shard file; the same rows give the same bytes (with the same pyarrow)."""
    codec = encoding_named(encoding)
    table = rows.meta.combine_chunks().append_column("tokens", codec.pack(rows.tokens, num_codes))
    dictionary = ["label", "width", "height", "source_bytes"] + ["tokens.list.element"] * codec.dictionary
    return parquet_bytes(table, dictionary, codec.group_rows(rows.tokens.shape[1]))


def parquet_bytes(table: pa.Table, dictionary: list[str], rows_per_group: int) -> bytes:
    """Parquet with zstd; sorted keys shrink to their differences (DELTA_BYTE_ARRAY)."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=dictionary,
        column_encoding={"key": "DELTA_BYTE_ARRAY"},
        row_group_size=rows_per_group,
        write_statistics=["key", "label"],  # for readers that look for some rows
        write_page_checksum=True,  # for reads of some columns, which no checksum of the file covers
    )
    return sink.getvalue().to_pybytes()


def parquet_table(data: bytes) -> pa.Table:
    """The table of a Parquet file in memory, read in this thread.

    Not by pq.read_table: threads of its dataset reader let go of the bytes late, and one that does so while the
    interpreter ends aborts the process.
    """
    return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)


def decode_shard(data: bytes, *, encoding: str, num_tokens: int, num_codes: int) -> TokenRows:
    """The rows of a shard file; ValueError when it is not one."""
    try:
        table = parquet_table(data)
        column = one_chunk(table["tokens"])
        meta = table.select([*META, *({MASK} & {*table.column_names})])
    except (pa.ArrowException, KeyError, OSError) as error:
        raise ValueError(f"not a token shard ({' '.join(str(error).split())}); tokenise again") from error
    return TokenRows(encoding_named(encoding).unpack(column, num_tokens, num_codes), meta)


def token_column_bytes(data: bytes) -> int:
    """Compressed bytes of the token column of a shard file."""
    return column_bytes(data, "tokens")


def column_bytes(data: bytes, column: str) -> int:
    """Compressed bytes of a column of a shard file; 0 where it is not there."""
    meta = pq.ParquetFile(pa.BufferReader(data)).metadata
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    columns = [g.column(j) for g in groups for j in range(g.num_columns)]
    return sum(c.total_compressed_size for c in columns if c.path_in_schema.split(".")[0] == column)


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array, whatever the number of its chunks (none included)."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def encode_rejected(rejected: pa.Table) -> bytes:
    """A table of rejects (key, reason)."""
    return parquet_bytes(rejected.cast(REJECTED_SCHEMA).combine_chunks(), [], 1 << 16)


def checksum(data: bytes) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(data).hexdigest()
