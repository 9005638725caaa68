"""What a dataset was made of, kept beside it: key and state of each image, to tell what has changed in the source.

_source/<split>/part-00000.parquet   key string, state int64: about ten bytes an image
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.rows import FoundRows
from seit_ray.storage import Folder

FOLDER = "_source"  # no split is called so
NAMED = 3  # images that a message names
SAME, ADDED, CHANGED = range(3)
KINDS = ("same", "added", "changed")


@dataclass
class Changes:
    """How the source differs from what the dataset was made of: numbers of images, and the first keys of each kind."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("added", "removed", "changed"), 0))
    keys: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in ("added", "removed", "changed")})

    def add(self, kind: str, key: str) -> None:
        """Count an image."""
        self.counts[kind] += 1
        if len(self.keys[kind]) < NAMED:
            self.keys[kind].append(key)

    def words(self, *kinds: str) -> str:
        """'2 removed (a.jpg, b.jpg)' of those kinds that there are, or of all; '' for none."""
        told = []
        for kind in kinds or self.counts:
            number, keys = self.counts[kind], self.keys[kind]
            if number:
                told.append(f"{number} {kind} ({', '.join(keys)}{', ...' if number > len(keys) else ''})")
        return ", ".join(told)


class KnownImages:
    """The images of a dataset; `kinds_of` those of a new listing, then `removed`. 17 bytes an image in memory."""

    def __init__(self, dataset: Folder, checksums: dict[str, str]):
        self.dataset, self.checksums = dataset, checksums
        hashes, states = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for table in self._parts():
            hashes.append(hashes_of(table["key"].to_pylist()))
            states.append(table["state"].to_numpy())
        found, known = np.concatenate(hashes)[::-1], np.concatenate(states)[::-1]
        self.hashes, last = np.unique(found, return_index=True)  # of a key that came twice, the later state
        self.states = known[last]
        self.seen = np.zeros(len(self.hashes), bool)

    def kinds_of(self, rows: FoundRows) -> np.ndarray:
        """SAME, ADDED or CHANGED, uint8 [N], of N images, each with a split."""
        if not len(self.hashes) or not len(rows):
            return np.full(len(rows), ADDED, np.uint8)
        hashes = hashes_of(rows.keys.to_pylist())
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        is_known = self.hashes[places] == hashes
        self.seen[places[is_known]] = True
        kinds = np.where(self.states[places] == rows.states(), SAME, CHANGED)
        return np.where(is_known, kinds, ADDED).astype(np.uint8)

    def removed(self) -> Iterator[str]:
        """Keys of those that no record had, after the listing."""
        gone = self.hashes[~self.seen]
        for table in self._parts() if len(gone) else ():
            keys = table["key"].to_pylist()
            hashes = hashes_of(keys)
            for place in np.flatnonzero(np.isin(hashes, gone)):
                yield keys[place]
            gone = gone[~np.isin(gone, hashes)]

    def _parts(self) -> Iterator[pa.Table]:
        for name, known in self.checksums.items():
            data = self.dataset.read(name)
            if hashlib.sha256(data).hexdigest() != known:
                raise ValueError(f"{self.dataset.uri_of(name)} has a wrong checksum; expected it unaltered; restore it")
            yield pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)


def hashes_of(keys: list[str]) -> np.ndarray:
    """uint64 [N] of N keys."""
    return np.frombuffer(b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys), "<u8")


def known_name(split: str, number: int) -> str:
    """The file that tells of a part of a split, relative to the dataset."""
    return f"{FOLDER}/{split}/part-{number:05}.parquet"


def known_file(rows: pa.Table) -> bytes:
    """Its bytes, for the rows of a part of a manifest."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.select(["key", "state"]).replace_schema_metadata(None),
        sink,
        compression="zstd",
        use_dictionary=False,
        column_encoding={"key": "DELTA_BYTE_ARRAY"},
        write_statistics=False,
    )
    return sink.getvalue().to_pybytes()
