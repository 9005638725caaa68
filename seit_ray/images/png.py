"""PNG files: those of nothing but pixels, read without looking for more, and those where something else is damaged."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SHOWN = frozenset({b"tRNS", b"eXIf"})  # beside the pixels themselves: what is transparent, how it is turned
_START = struct.Struct(">8sI4sIIBBBBBI")  # signature, then the header: sizes, depth, colour, 3 methods, checksum
_GREY, _COLOUR = 0, 2
# Between header and pixels what changes none: colour spaces, print sizes, times. Not texts, which may say how the
# picture is turned, nor the marks of animations.
_IDLE = frozenset({b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"pHYs", b"bKGD", b"tIME"})


class PlainPng(NamedTuple):
    """mode: L or RGB, of 8 bits; packed: the rows of pixels, filtered and compressed."""

    mode: str
    width: int
    height: int
    packed: bytes


def plain_png(data: bytes) -> PlainPng | None:
    """The pixels of a grey or colour PNG that says nothing else; None for any other, and wherever a doubt is left.

    Pillow looks at each part of a file, which for small pictures takes longer than the pixels do.
    """
    if len(data) < _START.size:
        return None
    signature, size, name, width, height, depth, colour, packing, filters, laced, checksum = _START.unpack_from(data)
    if (signature, size, name) != (_SIGNATURE, 13, b"IHDR") or zlib.crc32(data[12:29]) != checksum:
        return None
    if depth != 8 or colour not in (_GREY, _COLOUR) or packing or filters or laced or not width or not height:
        return None
    parts, at, is_over = list[bytes](), _START.size, False
    while at + 12 <= len(data):
        size, name = int.from_bytes(data[at : at + 4]), bytes(data[at + 4 : at + 8])
        if name == b"IEND":
            return PlainPng("L" if colour == _GREY else "RGB", width, height, b"".join(parts)) if parts else None
        if at + 12 + size > len(data):
            return None
        if name == b"IDAT" and not is_over:
            parts.append(data[at + 8 : at + 8 + size])
        elif name not in _IDLE:
            return None
        else:
            is_over = bool(parts)
        at += 12 + size
    return None


def png_picture(png: PlainPng) -> Image.Image | None:
    """The picture in mode RGB; None when there is anything wrong with its pixels."""
    try:
        picture = Image.frombytes(png.mode, (png.width, png.height), png.packed, "zip", png.mode, 0)
    except ValueError:
        return None
    return picture if png.mode == "RGB" else picture.convert("RGB")


def without_extras(data: bytes) -> bytes | None:
    """The file without texts, colour profiles and the like; None for what is no PNG, or has none of them.

    A damaged text, or one too large for Pillow's limit, keeps no viewer from showing the picture. Chunks that hold
    pixels stay as they are, with their checksums.
    """
    if data[:8] != _SIGNATURE:
        return None
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4]), bytes(data[at + 4 : at + 8])
        chunk = data[at : at + 12 + size]
        is_extra = bool(name[0] & 0x20)
        if not is_extra or (name in _SHOWN and _is_right(chunk)):
            kept.append(chunk)
        at += 12 + size
    found = b"".join(kept)
    return found if len(found) < len(data) else None


def _is_right(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
