"""One image in a source, and the names of splits."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image that was found: unique key, absolute uri, and what the source says of it (None: nothing)."""

    key: str
    uri: str
    label: str | int | None
    split: str | None
    size_bytes: int | None
    version: str | None = None  # another one when the image was overwritten


def state_of(record: ImageRecord, split: str) -> int:
    """64 bits, signed, that change when an image is overwritten, labelled anew or moved to another split."""
    seen = json.dumps([split, record.label, record.size_bytes, record.version]).encode()
    return int.from_bytes(hashlib.blake2b(seen, digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class FoundImages:
    """The images of a source, to be iterated once; class_names when the source has a list of them."""

    kind: str
    class_names: list[str] | None
    records: Iterator[ImageRecord]

    def __iter__(self) -> Iterator[ImageRecord]:
        return self.records


def splits_of(names: Collection[str]) -> dict[str, str]:
    """Name -> train, val or test, when every name is that of a split; else nothing.

    A test set without a val set serves as val.
    """
    if not all(name.lower() in SPLITS for name in names):
        return {}
    splits = {name: SPLITS[name.lower()] for name in names}
    if "val" not in splits.values():
        splits = {name: "val" if split == "test" else split for name, split in splits.items()}
    return splits


def split_name(value: object) -> str | None:
    """The split that a table's cell names; None for an empty one."""
    text = str(value).strip() if value is not None else ""
    return SPLITS.get(text.lower(), text) or None


def missing_column(column: str, uri: str, found: Collection[str], setting: str) -> ValueError:
    """The error for a column that is not there; names the nearest that is."""
    near = difflib.get_close_matches(column, found, n=1, cutoff=0.4)
    hint = f"perhaps {near[0]!r}: " if near else ""
    return ValueError(f"column {column!r} in {uri}; expected one of {sorted(found)}; {hint}set {setting}")
