"""Rows -> files of a split: shards of tokens, tables of rejects, and the split's entry of the marker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seit_ray.shards.marker import RejectFile, Shard, Split
from seit_ray.shards.parquet import (
    MASK,
    TokenRows,
    checksum,
    column_bytes,
    encode_rejected,
    encode_shard,
    token_column_bytes,
)
from seit_ray.shards.statistics import code_histogram
from seit_ray.storage import Folder

REJECTED = "rejected-"  # the names of tables of rejects begin so


@dataclass
class WrittenShard:
    """A written shard and what its rows add up to: histogram int64 [K], label_counts int64 [C]."""

    shard: Shard
    histogram: np.ndarray
    label_counts: np.ndarray
    source_bytes: int


def shard_name(index: int) -> str:
    """Name of a shard in the folder of its split."""
    return f"shard-{index:05}.parquet"


def rejected_name(index: int) -> str:
    """Name of the table of rejects that belongs to a shard, beside it."""
    return f"{REJECTED}{index:05}.parquet"


def write_shard(
    rows: TokenRows, *, split: str, index: int, output: Folder, encoding: str, num_codes: int, num_classes: int
) -> WrittenShard:
    """Write rows as shard number `index` of a split."""
    data = encode_shard(rows, encoding=encoding, num_codes=num_codes)
    name = shard_name(index)
    output.write(f"{split}/{name}", data)
    labels = rows.meta["label"].drop_null().to_numpy()
    return WrittenShard(
        shard=Shard(name, len(rows), len(data), token_column_bytes(data), checksum(data), column_bytes(data, MASK)),
        histogram=code_histogram(rows.tokens, num_codes),
        label_counts=np.bincount(labels, minlength=num_classes) if num_classes else np.zeros(0, np.int64),
        source_bytes=int(rows.meta["source_bytes"].to_numpy().sum()),
    )


def write_rejects(rejected: pa.Table, split: str, name: str, output: Folder) -> RejectFile:
    """Write a table of rejects (key, reason)."""
    data = encode_rejected(rejected)
    output.write(f"{split}/{name}", data)
    return RejectFile(name, len(rejected), checksum(data), len(data))


def split_of(
    made: Sequence[WrittenShard], *, rejects: Sequence[RejectFile] = (), num_codes: int, num_classes: int
) -> Split:
    """A split's entry of the marker: what its files add up to."""
    rows, rejected = sum(p.shard.rows for p in made), sum(r.rows for r in rejects)
    return Split(
        listed=rows + rejected,
        rows=rows,
        rejected=rejected,
        source_bytes=sum(p.source_bytes for p in made),
        shards=[p.shard for p in made],
        rejects=list(rejects),
        code_histogram=sum((p.histogram for p in made), np.zeros(num_codes, np.int64)).tolist(),
        label_counts=sum((p.label_counts for p in made), np.zeros(num_classes, np.int64)).tolist(),
    )
