"""What a listing says of one image: its split by its key, and a reason in place of an address."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection
from json.encoder import encode_basestring_ascii

_UNUSABLE = "unusable: "
NO_MAP = "no label map"


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


def missing_column(column: str, uri: str, found: Collection[str], setting: str) -> ValueError:
    """The error for a column that is not there; names the nearest that is."""
    near = difflib.get_close_matches(column, found, n=1, cutoff=0.4)
    hint = f"perhaps {near[0]!r}: " if near else ""
    return ValueError(f"column {column!r} in {uri}; expected one of {sorted(found)}; {hint}set {setting}")
