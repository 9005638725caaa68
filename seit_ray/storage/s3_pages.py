"""The objects in a page of S3's listing, read at once: the client's reader takes longer than many a server."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from botocore.utils import parse_timestamp

FIELDS = ("Key", "LastModified", "ETag", "Size")
EVENT = "before-parse.s3.ListObjectsV2"  # of the client, which adds what it reads of the rest


def read_objects(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **more: Any) -> None:
    """Take the objects out of an answer, and put them into what the client will have read; it reads what is left."""
    del more
    if response_dict["status_code"] != 200:
        return
    try:
        root = ElementTree.fromstring(response_dict["body"])
    except ElementTree.ParseError:  # which the client tells of
        return
    space = root.tag.rpartition("}")[0] + "}" if root.tag.startswith("{") else ""
    names, found, rest = {space + name: name for name in FIELDS}, [], []
    for element in root:
        if element.tag != f"{space}Contents":
            rest.append(element)
            continue
        item: dict[str, Any] = {names[part.tag]: part.text or "" for part in element if part.tag in names}
        item["Size"], item["LastModified"] = int(item["Size"]), moment_of(item["LastModified"])
        found.append(item)
    if found:
        root[:] = rest
        response_dict["body"] = ElementTree.tostring(root)
        customized_response_dict["Contents"] = found


def moment_of(value: Any) -> datetime:
    """The moment that an answer tells."""
    with contextlib.suppress(TypeError, ValueError):
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return found
    return parse_timestamp(value)
