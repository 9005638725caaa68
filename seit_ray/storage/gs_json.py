"""Names, objects, checksums and errors as Google's JSON interface writes them."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import google_crc32c

from seit_ray.storage.entry import Entry
from seit_ray.storage.service import RefusedError

FIELDS = "nextPageToken,prefixes,items(name,size,updated,generation)"  # of a listing


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def crc32c_of(data: bytes) -> str:
    """The checksum as Google writes it: base64 of 4 bytes, the highest first."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def entry_of(item: Mapping[str, Any], start: int) -> Entry:
    """An object of a listing, its name from character `start` on."""
    modified = datetime.fromisoformat(item["updated"]).isoformat()
    return Entry(item["name"][start:], int(item["size"]), modified, str(item["generation"]))


def refusal(status: int, text: str) -> RefusedError:
    """What a status and its body mean: whether an object or its bucket is missing stands in words alone."""
    with contextlib.suppress(ValueError, KeyError, TypeError):  # plain text, as of a proxy on the way
        text = str(json.loads(text)["error"]["message"])
    code = str(status)
    if status == 404:
        words = text.lower()
        code = "NoSuchKey" if "object" in words else "NoSuchBucket" if "bucket" in words else code
    elif status == 400 and "requester pays" in text:
        code = "UserProjectMissing"
    return RefusedError(status, code, text)
