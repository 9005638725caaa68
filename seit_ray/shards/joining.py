"""Fragments -> shards of exact size, in manifest order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from seit_ray.shards.dataset import Shard, Split
from seit_ray.shards.fragments import Fragment, read_fragment
from seit_ray.shards.parquet import (
    REJECTED_SCHEMA,
    TokenRows,
    checksum,
    concat_rows,
    encode_rejected,
    encode_shard,
    token_column_bytes,
)
from seit_ray.shards.statistics import code_histogram
from seit_ray.storage import Folder


class Piece(NamedTuple):
    """Rows start to stop of a fragment."""

    fragment: Fragment
    start: int
    stop: int


def plan_shards(fragments: Sequence[Fragment], rows_per_shard: int) -> list[list[Piece]]:
    """The pieces of every shard: all shards but the last hold exactly `rows_per_shard` rows."""
    shards: list[list[Piece]] = []
    room = 0
    for fragment in fragments:
        start = 0
        while start < fragment.rows:
            if not room:
                shards.append([])
                room = rows_per_shard
            stop = min(fragment.rows, start + room)
            shards[-1].append(Piece(fragment, start, stop))
            room -= stop - start
            start = stop
    return shards


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


def join_shard(
    pieces: Sequence[Piece],
    *,
    index: int,
    fragments: Folder,
    output: Folder,
    encoding: str,
    num_tokens: int,
    num_codes: int,
    num_classes: int,
) -> WrittenShard:
    """Write shard number `index` of the pieces' split."""
    parts = []
    for piece in pieces:
        rows, _ = read_fragment(fragments, piece.fragment, num_tokens)
        parts.append(rows.slice(piece.start, piece.stop))
    return write_shard(
        concat_rows(parts),
        split=pieces[0].fragment.split,
        index=index,
        output=output,
        encoding=encoding,
        num_codes=num_codes,
        num_classes=num_classes,
    )


def write_shard(
    rows: TokenRows, *, split: str, index: int, output: Folder, encoding: str, num_codes: int, num_classes: int
) -> WrittenShard:
    """Write rows as shard number `index` of a split."""
    data = encode_shard(rows, encoding=encoding, num_codes=num_codes)
    name = shard_name(index)
    output.write(f"{split}/{name}", data)
    labels = rows.meta["label"].drop_null().to_numpy()
    return WrittenShard(
        shard=Shard(name, len(rows), len(data), token_column_bytes(data), checksum(data)),
        histogram=code_histogram(rows.tokens, num_codes),
        label_counts=np.bincount(labels, minlength=num_classes) if num_classes else np.zeros(0, np.int64),
        source_bytes=int(rows.meta["source_bytes"].to_numpy().sum()),
    )


def split_of(
    made: Sequence[WrittenShard], *, rejected: int, rejected_sha256: str | None, num_codes: int, num_classes: int
) -> Split:
    """A split's entry of the marker: what its shards add up to."""
    rows = sum(p.shard.rows for p in made)
    return Split(
        listed=rows + rejected,
        rows=rows,
        rejected=rejected,
        source_bytes=sum(p.source_bytes for p in made),
        shards=[p.shard for p in made],
        rejected_sha256=rejected_sha256,
        code_histogram=sum((p.histogram for p in made), np.zeros(num_codes, np.int64)).tolist(),
        label_counts=sum((p.label_counts for p in made), np.zeros(num_classes, np.int64)).tolist(),
    )


def join_rejected(
    split: str,
    split_fragments: Sequence[Fragment],
    fragments: Folder,
    output: Folder,
    num_tokens: int,
    *,
    name: str = "rejected.parquet",
    before: pa.Table | None = None,
) -> str:
    """Write a split's table of rejects in manifest order, behind those of `before`; its checksum."""
    tables = [read_fragment(fragments, f, num_tokens)[1] for f in split_fragments if f.rejected]
    if before is not None:
        tables.insert(0, before)
    data = encode_rejected(pa.concat_tables([table.cast(REJECTED_SCHEMA) for table in tables]))
    output.write(f"{split}/{name}", data)
    return checksum(data)
