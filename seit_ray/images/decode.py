"""Encoded image bytes -> uint8 RGB pixels of one size; a bad image is an ImageError with its reason."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

MAX_PIXELS = 178_956_970
# The readers are called directly. Image.open would add formats that run other programs or read other files,
# and its own limit of pixels: a warning and an error by a global setting, not one of each thread.
_READERS = (
    (JpegImagePlugin.JpegImageFile, re.compile(rb"\xff\xd8\xff")),
    (PngImagePlugin.PngImageFile, re.compile(rb"\x89PNG\r\n\x1a\n")),
    (WebPImagePlugin.WebPImageFile, re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    (GifImagePlugin.GifImageFile, re.compile(rb"GIF8[79]a")),
    (TiffImagePlugin.TiffImageFile, re.compile(rb"II[*+]\0|MM\0[*+]")),
    (BmpImagePlugin.BmpImageFile, re.compile(rb"BM")),
    (PpmImagePlugin.PpmImageFile, re.compile(rb"P[1-6f]\s")),
)
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image that cannot be used; its text is the reason, the same in every run."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """pixels uint8 [3,H,W], C-contiguous RGB; width and height of the source, as it is meant to be seen."""

    pixels: np.ndarray
    width: int
    height: int


def decode_image(data: bytes, *, image_size: int, resize: str = "squash", max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """RGB pixels [3,image_size,image_size] of one JPEG, PNG, WebP, GIF (first frame), TIFF, BMP or PPM image.

    resize: 'squash' scales both sides (SeiT), 'crop' the short side and cuts out the centre (CCViT), bicubic.
    Transparent pixels show white; ICC profiles are ignored; EXIF orientation is applied. Raises ImageError.
    """
    if resize not in RESIZERS or image_size < 1:
        raise ValueError(
            f"resize {resize!r} to image_size {image_size}; expected one of {sorted(RESIZERS)} and a size of "
            "at least 1; correct them"
        )
    # Another library may have switched this on; a half grey image must not pass for a good one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image = _open(data)
        if image.width * image.height > max_pixels:
            raise ImageError(f"{image.width}x{image.height} pixels; expected at most {max_pixels}; raise max_pixels")
        image.load()
        transposition = _TRANSPOSITIONS.get(_orientation(image))
        image = _to_rgb(image)
    except (ImageError, MemoryError):  # running out of memory is no fault of the image
        raise
    except Exception as error:  # the readers raise whatever a damaged file leads them to
        raise ImageError(_reason(error)) from error
    if transposition is not None:
        image = image.transpose(transposition)
    pixels = np.asarray(RESIZERS[resize](image, image_size)).transpose(2, 0, 1)
    return DecodedImage(np.ascontiguousarray(pixels), image.width, image.height)


def _open(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read."""
    if not data:
        raise ImageError("empty: 0 bytes")
    for reader, signature in _READERS:
        if signature.match(data):
            return reader(io.BytesIO(data), "")
    raise ImageError(
        f"not an image: starts with bytes {bytes(data[:8]).hex()}; expected JPEG, PNG, WebP, GIF, TIFF, ..."
    )


def _reason(error: Exception) -> str:
    """One line that holds no address of memory, so that two runs store the same."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(str(error).split())) or type(error).__name__
    kind = "truncated" if "truncated" in text.lower() or isinstance(error, EOFError) else "damaged"
    return f"{kind}: {text}"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; damaged EXIF counts as none, for the picture itself may be good."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Mode RGB, from whatever mode the file has."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image)
    return white


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint8 [H,W] of grey values with more bits.

    White is 65535 for integers; for floats it is 1, 255 or 65535, the first that is not exceeded. Values that
    fit none of these (32 bits have no agreed white) are stretched, least to greatest.
    """
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise ImageError("damaged: grey values that are not finite")
    whites = (65535,) if values.dtype.kind in "iu" else (1, 255, 65535)
    white = next((white for white in whites if high <= white), None)
    if low < 0 or white is None:
        values, white = values.astype(np.float64) - low, max(float(high) - float(low), 1e-30)
    return np.rint(values * (255 / white)).astype(np.uint8)


def _squash(image: Image.Image, size: int) -> Image.Image:
    """Both sides to size."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


def _crop(image: Image.Image, size: int) -> Image.Image:
    """The short side to size, then the centre; rounded as torchvision's Resize and CenterCrop."""
    width, height = image.size
    scaled_width = size if width <= height else int(size * width / height)
    scaled_height = size if height <= width else int(size * height / width)
    left, top = round((scaled_width - size) / 2), round((scaled_height - size) / 2)
    if (scaled_width, scaled_height) == (width, height):
        return image.crop((left, top, left + size, top + size))
    # Only the part that remains is made: the whole of a 1x100000 strip would be 6.5 billion pixels.
    box = (
        left * width / scaled_width,
        top * height / scaled_height,
        (left + size) * width / scaled_width,
        (top + size) * height / scaled_height,
    )
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


RESIZERS = {"squash": _squash, "crop": _crop}
