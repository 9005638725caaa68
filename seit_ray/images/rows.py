"""Images of a listing as columns: many at a time cost little."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seit_ray.images.records import json_of, split_of_key, unusable_reason


@dataclass(frozen=True)
class FoundRows:
    """Some images in the order of the listing, N of them: unique keys, absolute uris, what the source says of them.

    plain: the keys without the number of a repeat, by which images are held out. labels, splits int32 [N]: places in
    label_values and split_names, -1 for none. sizes int64 and versions with nulls for what the source does not tell.
    masks, mask_versions: of the label maps, in a source of pairs.
    """

    keys: pa.StringArray
    plain: pa.StringArray
    uris: pa.StringArray
    sizes: pa.Int64Array
    versions: pa.StringArray
    labels: np.ndarray
    label_values: Sequence[str | int]
    splits: np.ndarray
    split_names: Sequence[str]
    masks: pa.StringArray | None = None
    mask_versions: pa.StringArray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def filter(self, mask: np.ndarray) -> FoundRows:
        """Those where a bool [N] is true."""
        chosen = pa.array(mask)
        columns = {name: column.filter(chosen) for name, column in self._columns()}
        return replace(self, **columns, labels=self.labels[mask], splits=self.splits[mask])

    def head(self, number: int) -> FoundRows:
        """The first ones."""
        columns = {name: column.slice(0, number) for name, column in self._columns()}
        return replace(self, **columns, labels=self.labels[:number], splits=self.splits[:number])

    def _columns(self) -> Iterator[tuple[str, pa.Array]]:
        columns = ((name, getattr(self, name)) for name in COLUMNS)
        return ((name, column) for name, column in columns if column is not None)

    def held_out(self, *, val_fraction: float, seed: int) -> FoundRows:
        """With a split for those that the source gives none: see `split_of_key`."""
        free = np.flatnonzero(self.splits < 0)
        if not len(free):
            return self
        splits, first = self.splits.copy(), len(self.split_names)
        splits[free] = first
        if val_fraction > 0:
            keys = self.plain.take(pa.array(free)).to_pylist()
            splits[free] += [split_of_key(key, val_fraction=val_fraction, seed=seed) == "val" for key in keys]
        return replace(self, splits=splits, split_names=[*self.split_names, "train", "val"])

    def states(self) -> np.ndarray:
        """int64 [N], `state_of` each, where all have a split."""
        found = np.empty(len(self), np.int64)
        columns = (self.sizes, self.versions, self.masks, self.mask_versions)
        for split in np.unique(self.splits).tolist():
            mask = self.splits == split
            chosen = pa.array(mask)
            found[mask] = states_of(
                self.split_names[split],
                self.labels[mask],
                self.label_values,
                *(column if column is None else column.filter(chosen) for column in columns),
            )
        return found


NAMED = 3  # reasons that a note names
COLUMNS = ("keys", "plain", "uris", "sizes", "versions", "masks", "mask_versions")


@dataclass
class Unusable:
    """How many uris cannot be read, and the first reasons."""

    number: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, uris: pa.StringArray) -> None:
        """Some of them."""
        self.number += len(uris)
        self.first += [unusable_reason(uri) or "" for uri in uris.slice(0, NAMED - len(self.first)).to_pylist()]


def states_of(
    split: str,
    labels: np.ndarray,
    label_values: Sequence[str | int],
    sizes: pa.Array,
    versions: pa.Array,
    masks: pa.Array | None = None,
    mask_versions: pa.Array | None = None,
) -> np.ndarray:
    """int64 [N]: 64 bits, signed, that change when an image is overwritten, labelled anew or moved to another split.

    Of an image with a label map, also when the map is.
    """
    begins = {code: f"[{json_of(split)}, {json_of(label_values[code])}, " for code in np.unique(labels[labels >= 0])}
    begins[-1] = f"[{json_of(split)}, null, "
    ends = [""] * len(labels)
    if masks is not None and mask_versions is not None:
        maps = zip(masks.to_pylist(), mask_versions.to_pylist(), strict=True)
        ends = [f"[{json_of(unusable_reason(mask))}, {json_of(version)}]" for mask, version in maps]
    rows = zip(labels.tolist(), sizes.to_pylist(), versions.to_pylist(), ends, strict=True)
    digests = [
        hashlib.blake2b(f"{begins[label]}{json_of(size)}, {json_of(version)}]{end}".encode(), digest_size=8).digest()
        for label, size, version, end in rows
    ]
    return np.frombuffer(b"".join(digests), "<i8")


def first_places(codes: np.ndarray) -> np.ndarray:
    """The different values of codes that are not negative, in the order in which they are met."""
    found, first = np.unique(codes, return_index=True)
    order = np.argsort(first, kind="stable")
    return found[order][found[order] >= 0]


def lengths_of(column: pa.StringArray) -> np.ndarray:
    """int64 [N]: bytes of each string, of which none is null."""
    return pc.binary_length(column).to_numpy().astype("<i8")


def bytes_of(column: pa.StringArray) -> pa.Buffer:
    """All of its strings, none of which is null, one after the other."""
    _, ends, data = column.buffers()
    first, last = np.frombuffer(ends, "<i4")[[column.offset, column.offset + len(column)]].tolist()
    return data.slice(first, last - first) if data is not None else pa.py_buffer(b"")
