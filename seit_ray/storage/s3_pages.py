"""The objects in a page of S3's listing, read at once: the client's reader takes longer than many a server.

Servers write a page alike: so many `<Contents>`, most often with the same fields in the same order, else with one of
each that counts. What is written otherwise is read by a reader of XML. The client is left with an answer that has no
objects.
"""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from botocore.utils import parse_timestamp

# Of the client, which adds what it reads of the rest. Its own look for errors, at `before-parse.s3.*`, which reads all
# that is there, comes behind handlers with this star.
EVENT = "before-parse.*.ListObjectsV2"
OBJECTS = "Objects"  # where the columns of objects are in its answer, in the order of an `Entry`
FIELDS = ("Key", "Size", "LastModified", "ETag")
_BEGIN, _END = "<Contents>", "</Contents>"
_KEYS, _SIZES = re.compile(r"<Key>([^<]*)</Key>"), re.compile(r"<Size>(\d+)</Size>", re.ASCII)
_MOMENTS = re.compile(r"<LastModified>([^<&]*)</LastModified>")
_ETAGS = re.compile(r"<ETag>(?:&quot;|\")?([^<&\"]*)(?:&quot;|\")?</ETag>")
_OTHER_ENCODING = re.compile(rb"<\?xml[^>]*encoding=(?!.utf-8)", re.IGNORECASE)

Columns = list[list[str]]  # one of each field of FIELDS, with an item an object


def read_objects(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **more: Any) -> None:
    """Take the objects out of an answer, and put them into what the client will have read; it reads what is left."""
    del more
    if response_dict["status_code"] != 200:
        return
    found = plain_columns(response_dict["body"]) or parsed_columns(response_dict["body"])
    if found is None:  # no page, of which the client tells
        return
    (keys, sizes, moments, etags), rest = found
    if b"<EncodingType>url</EncodingType>" in rest:  # the client asks for it, so that a key may have any character
        keys = [unquote_plus(key) if "%" in key or "+" in key else key for key in keys]
    if keys:
        response_dict["body"] = rest
        customized_response_dict[OBJECTS] = (keys, list(map(int, sizes)), moment_texts(moments), etags)


def plain_columns(body: bytes) -> tuple[Columns, bytes] | None:
    """(the objects of a page, all else of it); None for one that is written in another way."""
    if _OTHER_ENCODING.match(body):
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    found = None if "<!" in text else aligned_columns(text) or matched_columns(text)
    if found is None:
        return None
    (keys, *more), rest = found
    if "<Key>" in rest:
        return None
    if "&" in "".join(keys) or "\r" in text:
        keys = [_unescaped(key) for key in keys]
    return [keys, *more], rest.encode()


def aligned_columns(text: str) -> tuple[Columns, str] | None:
    """The same of a page whose objects have the same fields in the same order, and nothing between them."""
    first, last = text.find(_BEGIN), text.rfind(_END) + len(_END)
    if first < 0 or last <= first:
        return None
    parts = text[first + 1 : last].split("<")  # 'Key>a.jpg', '/Key>', ...
    each = parts.index(_END[1:]) + 1
    number, tags = len(parts) // each, [part.partition(">")[0] for part in parts[:each]]
    are_aligned = parts[::each].count(_BEGIN[1:]) == parts[each - 1 :: each].count(_END[1:]) == number
    if not are_aligned or len(parts) % each:
        return None
    columns = []
    for name in FIELDS:
        if tags.count(name) != 1:
            return None
        place = tags.index(name)
        line = "<".join(parts[place::each])
        if name == "ETag":
            line = line.replace("&quot;", "").replace('"', "")
        columns.append(line[len(name) + 1 :].split(f"<{name}>"))
        if len(columns[-1]) != number or parts[place + 1 :: each].count(f"/{name}>") != number:
            return None
        if "&" in line and name != "Key":
            return None
    digits = "".join(columns[1])
    if "" in columns[1] or not (digits.isdigit() and digits.isascii()):
        return None
    return columns, text[:first] + text[last:]


def matched_columns(text: str) -> tuple[Columns, str] | None:
    """The same of a page whose objects have one of each field that counts, wherever."""
    begin, *contents = text.split(_BEGIN)
    columns = [pattern.findall(text) for pattern in (_KEYS, _SIZES, _MOMENTS, _ETAGS)]
    rest = begin + "".join([each.partition(_END)[2] for each in contents])
    if not contents or {len(contents)} != {text.count(_END), *map(len, columns)}:
        return None
    return columns, rest


def _unescaped(text: str) -> str:
    return ElementTree.fromstring(f"<a>{text}</a>").text or "" if "&" in text or "\r" in text else text


def parsed_columns(body: bytes) -> tuple[Columns, bytes] | None:
    """The same of any page; None for what is none."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return None
    space = root.tag.rpartition("}")[0] + "}" if root.tag.startswith("{") else ""
    columns: Columns = [[] for _ in FIELDS]
    rest = []
    for element in root:
        if element.tag != f"{space}Contents":
            rest.append(element)
            continue
        for name, column in zip(FIELDS, columns, strict=True):
            column.append((element.findtext(f"{space}{name}") or "").strip('"' if name == "ETag" else ""))
    root[:] = rest
    if not columns[0]:
        return None
    for element in root.iter():  # without names of spaces, which the client does not look at
        element.tag = element.tag.removeprefix(space)
    return columns, ElementTree.tostring(root)


def moment_texts(values: list[str]) -> list[str]:
    """The moments that an answer tells, as in `Entry.modified`."""
    text = "\n".join(values)
    if text.count(".000Z") == len(values) and len(text) == 25 * len(values) - 1:  # as servers write them
        return text.replace(".000Z", "+00:00").split("\n")
    return [moment_of(value).isoformat() for value in values]


def moment_of(value: Any) -> datetime:
    """The moment that an answer tells."""
    with contextlib.suppress(TypeError, ValueError):
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return found
    return parse_timestamp(value)
