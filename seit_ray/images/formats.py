"""Which format encoded bytes have: the reader for it, or the name of one that is not read."""

from __future__ import annotations

import io
import re

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

# The readers are called directly. Image.open would add formats that run other programs or read other files,
# and its own limit of pixels: a warning and an error by a global setting, not one of each thread.
READERS = (
    (JpegImagePlugin.JpegImageFile, re.compile(rb"\xff\xd8\xff")),
    (PngImagePlugin.PngImageFile, re.compile(rb"\x89PNG\r\n\x1a\n")),
    (WebPImagePlugin.WebPImageFile, re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    (GifImagePlugin.GifImageFile, re.compile(rb"GIF8[79]a")),
    (TiffImagePlugin.TiffImageFile, re.compile(rb"II[*+]\0|MM\0[*+]")),
    (BmpImagePlugin.BmpImageFile, re.compile(rb"BM")),
    (PpmImagePlugin.PpmImageFile, re.compile(rb"P[1-6f]\s")),
)
_OTHERS = {
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", re.DOTALL),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", re.DOTALL),
    "Photoshop": re.compile(rb"8BPS"),
    "PDF": re.compile(rb"%PDF-"),
    "SVG": re.compile(rb"\s*(<\?xml[^>]*>\s*)?<svg", re.IGNORECASE),
    "a web page": re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE),
    "a Git LFS pointer": re.compile(rb"version https://git-lfs"),
}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


class ImageError(ValueError):
    """An image that cannot be used; its text is the reason, the same in every run."""


def open_image(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read; ImageError for what is none, or of a format that is not read."""
    if not data:
        raise ImageError("empty: 0 bytes")
    for reader, signature in READERS:
        if signature.match(data):
            return reader(io.BytesIO(data), "")
    brands = _brands(data)
    if brands & _AVIF_BRANDS:
        if not AvifImagePlugin.SUPPORTED:
            raise ImageError("AVIF, which this build of Pillow does not read; expected one that does; update Pillow")
        return AvifImagePlugin.AvifImageFile(io.BytesIO(data), "")
    name = "HEIC" if brands & _HEIF_BRANDS else next((n for n, mark in _OTHERS.items() if mark.match(data)), None)
    what = f"{name}, which is not read" if name else f"starts with bytes {bytes(data[:8]).hex()}"
    kind = "" if name in ("HEIC", "JPEG XL", "JPEG 2000") else "not an image: "
    mend = "; convert it" if name and not kind else ""
    raise ImageError(f"{kind}{what}; expected JPEG, PNG, WebP, GIF, TIFF, AVIF, ...{mend}")


def _brands(data: bytes) -> set[bytes]:
    """The brands of a file of the ISO family (HEIF, AVIF): what it says that may read it."""
    if data[4:8] != b"ftyp":
        return set()
    head = bytes(data[8 : min(max(16, int.from_bytes(data[:4])), 256)])
    return {head[i : i + 4] for i in range(0, len(head), 4) if i != 4}  # the second word is a version
