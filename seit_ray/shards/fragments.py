"""Fragments: the tokens of one manifest slice in one atomic file, whose name carries its counts.

Names are <split>/<slice>.<rows>.<rejected>.parquet, so that a listing alone says what is done and where shards begin.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from seit_ray.shards.parquet import TokenRows, decode_fragment, encode_fragment
from seit_ray.storage import Folder


class Fragment(NamedTuple):
    """One finished slice."""

    split: str
    slice: int
    rows: int
    rejected: int

    @property
    def name(self) -> str:
        """Path inside the fragments' folder."""
        return f"{self.split}/{self.slice:09d}.{self.rows}.{self.rejected}.parquet"


def write_fragment(folder: Folder, split: str, index: int, rows: TokenRows, rejected: pa.Table) -> Fragment:
    """Write a slice's rows and rejects; it is there whole or not at all."""
    fragment = Fragment(split, index, len(rows), len(rejected))
    folder.write(fragment.name, encode_fragment(rows, rejected))
    return fragment


def read_fragment(folder: Folder, fragment: Fragment, num_tokens: int) -> tuple[TokenRows, pa.Table]:
    """Rows and rejects of a slice; ValueError when the file is damaged."""
    data = folder.read(fragment.name)
    try:
        rows, rejected = decode_fragment(data, num_tokens)
    except ValueError as error:
        raise ValueError(f"{folder.uri_of(fragment.name)}: {error}") from error
    if (len(rows), len(rejected)) != (fragment.rows, fragment.rejected):
        raise ValueError(f"{folder.uri_of(fragment.name)} holds other counts than its name; delete it and run again")
    return rows, rejected


def list_fragments(folder: Folder) -> dict[str, dict[int, Fragment]]:
    """Finished fragments by split and slice; empty files, which a power cut may leave, do not count."""
    found: dict[str, dict[int, Fragment]] = {}
    for entry in folder.list():
        split, _, file = entry.name.rpartition("/")
        parts = file.split(".")
        counts, is_whole = parts[:3], parts[3:] == ["parquet"] and entry.size_bytes
        if is_whole and all(p.isdigit() for p in counts):
            fragment = Fragment(split, *map(int, counts))
            found.setdefault(split, {})[fragment.slice] = fragment
    return found
