"""PNG files whose pixels are whole, and something beside them is not."""

from __future__ import annotations

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SHOWN = frozenset({b"tRNS", b"eXIf"})  # beside the pixels themselves: what is transparent, how it is turned


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
