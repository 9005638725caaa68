"""The pixels of grey and colour JPEGs by simplejpeg: those that Pillow gives, in less time.

Both are libjpeg-turbo with the accurate transform and smooth chroma. What simplejpeg does not take (inks, 12 bits) or
finds anything wrong with is left to Pillow, whose verdict and reasons count. simplejpeg is loaded by the first that is
read: training needs none, on machines that may have none.
"""

from __future__ import annotations

import numpy as np

_START = b"\xff\xd8\xff"
_START_OF_SCAN = 0xDA
_END = b"\xff\xd9"
# Between the start and the scan of a plain file: tables, frames (baseline, extended, progressive), restart interval,
# comment, APP0 (JFIF), APP2 to APP15. Not APP1: EXIF or XMP may say how the picture is turned.
_PLAIN = frozenset({0xDB, 0xC4, 0xC0, 0xC1, 0xC2, 0xDD, 0xFE, 0xE0, *range(0xE2, 0xF0)})
_SPACES = frozenset({"Gray", "YCbCr", "RGB"})


def is_plain_jpeg(data: bytes) -> bool:
    """Whether the header says nothing that only Pillow reads."""
    if data[:3] != _START:  # a comparison that any buffer allows
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] in _PLAIN:
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return data[at : at + 2] == bytes((0xFF, _START_OF_SCAN))


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG that `jpeg_pixels` may take; None for any other."""
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (width, height) if space in _SPACES else None


def jpeg_pixels(data: bytes, min_side: int | None = None) -> np.ndarray | None:
    """RGB uint8 [H,W,3]; None when there is anything wrong with it.

    min_side: scaled down by at least 2 in the transform itself, as far as both sides stay that long. A file whose end
    mark alone is missing has all its pixels: simplejpeg takes it with one, and no file of which more is missing.
    """
    import simplejpeg

    scale = {"min_height": min_side, "min_width": min_side, "min_factor": 2} if min_side else {}
    try:
        return simplejpeg.decode_jpeg(data, "RGB", **scale)
    except ValueError:
        if _END in data[-64:] or not _is_one_scan(data):
            return None
    try:
        return simplejpeg.decode_jpeg(bytes(data) + _END, "RGB", **scale)
    except ValueError:
        return None


def _is_one_scan(data: bytes) -> bool:
    """Whether all pixels are in one scan: of several, whole ones may be missing without a trace."""
    at, components = 2, 0
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _START_OF_SCAN:
            return 0 < components == data[at + 4]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame; baseline and extended have one scan
            components = data[at + 9] if marker in (0xC0, 0xC1) else 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False
