"""Encoded image bytes -> uint8 RGB pixels of one size; a bad image is an ImageError with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from seit_ray.images.formats import ImageError, open_image
from seit_ray.images.jpeg import is_plain_jpeg, jpeg_pixels, jpeg_size
from seit_ray.images.png import plain_png, png_picture, without_extras
from seit_ray.images.resize import RESIZERS, resize_exact, resize_fast

__all__ = ["MAX_PIXELS", "MODES", "DecodedImage", "ImageError", "decode_image", "decode_picture"]

MODES = ("exact", "fast")
MAX_PIXELS = 178_956_970
ROWS_VALUES = 1 << 20  # grey values that are changed at a time
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Those that keep width and height.
_UPRIGHT = frozenset(_TRANSPOSITIONS[orientation] for orientation in (2, 3, 4))


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """pixels uint8 [3,H,W], C-contiguous RGB; width and height of the source, as it is meant to be seen."""

    pixels: np.ndarray
    width: int
    height: int


def decode_image(
    data: bytes,
    *,
    image_size: int,
    resize: str = "squash",
    max_pixels: int = MAX_PIXELS,
    mode: str = "exact",
    white_level: int | None = None,
    out: np.ndarray | None = None,
) -> DecodedImage:
    """RGB pixels [3,image_size,image_size] of one JPEG, PNG, WebP, AVIF, GIF (first frame), TIFF, BMP or PPM image.

    resize: 'squash' scales both sides (SeiT), 'crop' the short side and cuts out the centre (CCViT), bicubic.
    mode: 'exact' gives what Pillow gives, bit for bit; 'fast' scales JPEGs of more than twice the size while they are
    decoded, and resizes by torch. Transparent pixels show white; ICC profiles are ignored; EXIF orientation is
    applied. white_level: the value that is white in grey images of 16 bits (4095 of sensors with 12); else 65535.
    What every viewer shows is decoded: a damaged text in a PNG, or a JPEG without its end mark, harms no pixels.
    out: uint8 [3,image_size,image_size] to hold the pixels. Raises ImageError.
    """
    if resize not in RESIZERS or image_size < 1 or mode not in MODES:
        raise ValueError(
            f"resize {resize!r} to image_size {image_size}, mode {mode!r}; expected one of {sorted(RESIZERS)}, a size "
            f"of at least 1, and one of {MODES}; correct them"
        )
    picture, width, height = _picture(data, max_pixels, image_size if mode == "fast" else None, white_level)
    to_size = resize_fast if mode == "fast" else resize_exact
    return DecodedImage(to_size(picture, image_size, resize, out), width, height)


def decode_picture(data: bytes, *, max_pixels: int = MAX_PIXELS, white_level: int | None = None) -> Image.Image:
    """The picture in mode RGB at its own size, as it is meant to be seen; otherwise as `decode_image`."""
    picture, _, _ = _picture(data, max_pixels, None, white_level)
    return Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture


def _picture(
    data: bytes, max_pixels: int, min_side: int | None, white_level: int | None
) -> tuple[np.ndarray | Image.Image, int, int]:
    """(RGB, width and height of the source); ImageError for whatever is wrong with it."""
    # Another library may have switched this on; a half grey image must not pass for a good one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        found = _plain_jpeg(data, max_pixels, min_side) or _plain_png(data, max_pixels)
        return found or _whole_image(data, max_pixels, min_side, white_level)
    except (ImageError, MemoryError, ImportError):  # no fault of the image: too little memory, a library that is away
        raise
    except Exception as error:  # the readers raise whatever a damaged file leads them to
        raise ImageError(_reason(error)) from error


def _plain_jpeg(data: bytes, max_pixels: int, min_side: int | None) -> tuple[np.ndarray, int, int] | None:
    """(RGB [H,W,3], width and height of the source) without Pillow; None where Pillow has to look."""
    size = jpeg_size(data) if is_plain_jpeg(data) else None
    if size is None or size[0] * size[1] > max_pixels:
        return None
    pixels = jpeg_pixels(data, min_side)
    return None if pixels is None else (pixels, *size)


def _plain_png(data: bytes, max_pixels: int) -> tuple[Image.Image, int, int] | None:
    """(RGB, its width and height) of a PNG with nothing but pixels; None where Pillow has to look at the file."""
    found = plain_png(data)
    if found is None or found.width * found.height > max_pixels:
        return None
    picture = png_picture(found)
    return None if picture is None else (picture, *picture.size)


def _whole_image(
    data: bytes, max_pixels: int, min_side: int | None, white_level: int | None
) -> tuple[Image.Image, int, int]:
    """As `_any_image`, of a PNG without what is not its picture where that is damaged."""
    try:
        return _any_image(data, max_pixels, min_side, white_level)
    except (ImageError, MemoryError):
        raise
    except Exception:  # the readers raise whatever a damaged file leads them to
        plain = without_extras(data)
        if plain is None:
            raise
        return _any_image(plain, max_pixels, min_side, white_level)


def _any_image(
    data: bytes, max_pixels: int, min_side: int | None, white_level: int | None
) -> tuple[Image.Image, int, int]:
    """(RGB, width and height of the source, as it is meant to be seen); pixels of JPEGs not by Pillow if it can be."""
    file = open_image(data)
    width, height = file.size
    if width * height > max_pixels:
        raise ImageError(f"{width}x{height} pixels; expected at most {max_pixels}; raise max_image_pixels")
    is_jpeg = isinstance(file, JpegImagePlugin.JpegImageFile) and jpeg_size(data) == file.size
    pixels = jpeg_pixels(data, min_side) if is_jpeg else None
    if pixels is None:
        file.load()  # before its EXIF, which may come behind the pixels
    transposition = _TRANSPOSITIONS.get(_orientation(file))
    image = _to_rgb(file, white_level) if pixels is None else Image.fromarray(pixels)
    if transposition is None:
        return image, width, height
    image = image.transpose(transposition)
    return (image, width, height) if transposition in _UPRIGHT else (image, height, width)


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


def _to_rgb(image: Image.Image, white_level: int | None) -> Image.Image:
    """Mode RGB, from whatever mode the file has."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_8_bits(np.asarray(image), white_level)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image)
    return white


def _to_8_bits(values: np.ndarray, white_level: int | None) -> np.ndarray:
    """uint8 [H,W] of grey values with more bits.

    White is white_level, or 65535, for integers, and what is brighter is white too; for floats it is 1, 255 or 65535,
    the first that is not exceeded. Values that fit none of these (32 bits have no agreed white) are stretched, least to
    greatest.
    """
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise ImageError("damaged: grey values that are not finite")
    if white_level is not None and values.dtype.kind in "iu":
        return _by_rows(values, lambda some: np.rint(np.clip(some, 0, white_level) * np.float32(255 / white_level)))
    whites = (65535,) if values.dtype.kind in "iu" else (1, 255, 65535)
    white = next((white for white in whites if high <= white), None)
    if low >= 0 and white is not None:
        return _by_rows(values, lambda some: np.rint(some * (255 / white)))
    span = max(float(high) - float(low), 1e-30)
    return _by_rows(values, lambda some: np.rint((some.astype(np.float64) - low) * (255 / span)))


def _by_rows(values: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """change(values) as uint8 [H,W], some rows at a time: the floats of a large picture would take a gigabyte."""
    out = np.empty(values.shape, np.uint8)
    rows = max(1, ROWS_VALUES // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        out[start : start + rows] = change(values[start : start + rows]).astype(np.uint8)
    return out
