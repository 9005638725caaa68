"""One image in a source, and all of them with what was seen beside them."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii

from seit_ray.images.label_maps import MapLabels

_UNUSABLE = "unusable: "
NO_MAP = "no label map"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image that was found: unique key, absolute uri, and what the source says of it (None: nothing)."""

    key: str
    uri: str
    label: str | int | None
    split: str | None
    size_bytes: int | None
    version: str | None = None  # another one when the image was overwritten
    repeats: str | None = None  # the key that this image has too: it goes to the same split
    mask: str | None = None  # absolute uri of its label map, in a source of pairs
    mask_version: str | None = None  # another one when the map was overwritten


def json_of(value: str | int | None) -> str:
    """The value as JSON: `json.dumps` makes an encoder for each call, which a listing of many images would feel."""
    if value is None:
        return "null"
    return encode_basestring_ascii(value) if isinstance(value, str) else str(value)


def split_of_key(key: str, *, val_fraction: float, seed: int) -> str:
    """The split that an image goes to by a hash of seed and key, whatever the other images."""
    number = int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest())
    return "val" if number / 2**64 < val_fraction else "train"


def unusable(reason: str) -> str:
    """The uri of what was listed and cannot be read: it becomes a reject with this reason."""
    return _UNUSABLE + " ".join(reason.split())


def no_map(reason: str) -> str:
    """As `unusable`, in place of the uri of a label map that an image has not."""
    return unusable(f"{NO_MAP}: {reason}")


def unusable_reason(uri: str) -> str | None:
    """The reason in such a uri; None for any other."""
    return uri.removeprefix(_UNUSABLE) if uri.startswith(_UNUSABLE) else None


@dataclass(frozen=True)
class FoundImages:
    """The images of a source, to be iterated once; class_names when the source has a list of them.

    labels: what the values of their label maps mean, which then class_names name; None for images without maps.
    left_out: what was seen and is not listed, by kind (suffix), whole at the end; notes for people.
    """

    kind: str
    class_names: list[str] | None
    records: Iterator[ImageRecord]
    left_out: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    labels: MapLabels | None = None

    def __iter__(self) -> Iterator[ImageRecord]:
        return self.records


def missing_column(column: str, uri: str, found: Collection[str], setting: str) -> ValueError:
    """The error for a column that is not there; names the nearest that is."""
    near = difflib.get_close_matches(column, found, n=1, cutoff=0.4)
    hint = f"perhaps {near[0]!r}: " if near else ""
    return ValueError(f"column {column!r} in {uri}; expected one of {sorted(found)}; {hint}set {setting}")
