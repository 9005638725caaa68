"""Pictures for tests, made here, and how to compare what became of them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from seit_ray.images import ImageError, decode_image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
QUADRANTS = [[RED, GREEN], [BLUE, WHITE]]


def encoded(image, format="PNG", **options):
    sink = io.BytesIO()
    image.save(sink, format, **options)
    return sink.getvalue()


def quadrants(width=16, height=16):
    """Red, green / blue, white: shows every flip and turn."""
    return Image.fromarray(np.array(QUADRANTS, np.uint8)).resize((width, height), Image.Resampling.NEAREST)


def photo(width, height, seed=0):
    """A smooth picture, as a JPEG can keep it."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def corners(pixels):
    """Colours next to the four corners, in rows."""
    last = pixels.shape[1] - 2
    return [[tuple(int(v) for v in pixels[:, y, x]) for x in (1, last)] for y in (1, last)]


def same_colours(found, expected, tolerance=0):
    return np.abs(np.array(found, int) - np.array(expected, int)).max() <= tolerance


def decode(data, size=16, **options):
    return decode_image(data, image_size=size, **options)


def grey_of(data, size):
    """The one channel of a picture that must be grey."""
    pixels = decode(data, size).pixels
    assert (pixels == pixels[:1]).all()
    return pixels[0]


def png_of(width, height, *, bit_depth=8, colour_type=0, raw=b"", checksum=0):
    """A PNG file from its parts."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ checksum)

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def swapped(data, old, new):
    assert old in data
    return data.replace(old, new)


def outcome(data, **options):
    """Pixels and size, or the reason."""
    try:
        image = decode(data, **options)
    except ImageError as error:
        return str(error)
    return image.pixels.tobytes(), image.width, image.height


def by_pillow(monkeypatch, reader, data, **options):
    """The same without a reader of our own: the name of a function of `decode`, which then knows no file."""
    with monkeypatch.context() as patch:
        patch.setattr(f"seit_ray.images.decode.{reader}", lambda data: None)
        return outcome(data, **options)
