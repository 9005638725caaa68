"""A folder of odd and bad images: every kind that a bucket may hold, made here, and what must become of each."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from seit_ray.storage import Folder
from tests.images.pictures import QUADRANTS, encoded, png_of, quadrants

SIDE = 32
ORIENTED = {  # orientation -> what a viewer must show, as indices into the stored quadrants, row by row
    1: [[0, 1], [2, 3]],
    2: [[1, 0], [3, 2]],
    3: [[3, 2], [1, 0]],
    4: [[2, 3], [0, 1]],
    5: [[0, 2], [1, 3]],
    6: [[2, 0], [3, 1]],
    7: [[3, 1], [2, 0]],
    8: [[1, 3], [0, 2]],
}
COLOURS = [colour for row in QUADRANTS for colour in row]
GREYS = [[tuple([round(0.299 * r + 0.587 * g + 0.114 * b)] * 3) for r, g, b in row] for row in QUADRANTS]


@dataclass(frozen=True)
class Odd:
    """An image file: the colours of its corners [2,2] as they must be seen, within a tolerance, or why it is bad."""

    data: bytes
    corners: list | None = None
    reason: str = ""
    tolerance: int = 70  # JPEG smears the colours of quadrants


def good(data: bytes, corners: list | None = None, tolerance: int = 70) -> Odd:
    """Quadrants, or what is given."""
    return Odd(data, QUADRANTS if corners is None else corners, "", tolerance)


def bad(data: bytes, reason: str) -> Odd:
    """Rejected with a reason that begins so."""
    return Odd(data, None, reason)


def oriented(orientation: int) -> bytes:
    """A JPEG whose EXIF says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(quadrants(SIDE, SIDE), "JPEG", exif=exif, quality=95)


def flat(colour: tuple[int, int, int]) -> list:
    """The same colour in all corners."""
    return [[colour, colour], [colour, colour]]


def ycck() -> bytes:
    """Adobe's YCCK with the inks of a blue."""
    inks = Image.merge("CMYK", [Image.new("L", (SIDE, SIDE), ink) for ink in (0, 0, 255, 40)])
    stored = Image.new("RGB", (SIDE, SIDE), (0, 0, 255)).convert("YCbCr").split()
    planes = [plane.point(lambda v: 255 - v) for plane in stored]
    data = bytearray(encoded(Image.merge("CMYK", [*planes, inks.split()[3]]), "JPEG", quality=100, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def palette_with_alpha() -> bytes:
    """Quadrants by palette; the first colour is transparent, and shows white."""
    indices = Image.fromarray(np.kron([[0, 1], [2, 3]], np.ones((SIDE // 2, SIDE // 2))).astype(np.uint8))
    image = indices.convert("P")
    image.putpalette([v for colour in COLOURS for v in colour])
    return encoded(image, "PNG", transparency=bytes([0, 255, 255, 255]))


def odd_images() -> dict[str, Odd]:
    """Name -> image, more than fifty of them."""
    picture, black = quadrants(SIDE, SIDE), Image.new("RGB", (SIDE, SIDE))
    jpeg, png = encoded(picture, "JPEG", quality=95), encoded(picture)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    animated = {"save_all": True, "append_images": [black] * 3}
    alpha = picture.convert("RGBA")
    alpha.putalpha(Image.new("L", picture.size, 0))
    deep = np.array([[0, 65535], [32896, 257]], np.uint16).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
    deep_colours = [[(0, 0, 0), (255,) * 3], [(128,) * 3, (1,) * 3]]
    red_inks = Image.merge("CMYK", [Image.new("L", (SIDE, SIDE), ink) for ink in (0, 255, 255, 0)])
    found = {
        "plain.jpg": good(jpeg),
        "plain.png": good(png, tolerance=0),
        "plain.bmp": good(encoded(picture, "BMP"), tolerance=0),
        "plain.webp": good(encoded(picture, "WEBP", lossless=True), tolerance=0),
        "plain.ppm": good(encoded(picture, "PPM"), tolerance=0),
        "pages.tif": good(encoded(picture, "TIFF", **animated), tolerance=0),
        "progressive.jpg": good(encoded(picture, "JPEG", progressive=True, quality=95)),
        "grey.jpg": good(encoded(picture.convert("L"), "JPEG", quality=95), GREYS),
        "cmyk.jpg": good(encoded(red_inks, "JPEG", quality=100), flat((255, 0, 0)), 3),
        "cmyk.tif": good(encoded(red_inks, "TIFF"), flat((255, 0, 0)), 3),
        "ycck.jpg": good(ycck(), flat((215, 215, 0)), 4),
        "profile.jpg": good(encoded(picture, "JPEG", icc_profile=profile, quality=95)),
        "profile.png": good(encoded(picture, icc_profile=profile), tolerance=0),
        "16 bits.png": good(encoded(Image.fromarray(deep)), deep_colours, 1),
        "one bit.png": good(encoded(Image.new("1", (SIDE, SIDE), 1)), flat((255, 255, 255)), 0),
        "palette and alpha.png": good(palette_with_alpha(), [[(255, 255, 255), (0, 255, 0)], QUADRANTS[1]], 0),
        "invisible.png": good(encoded(alpha), flat((255, 255, 255)), 0),
        "animated.gif": good(encoded(picture, "GIF", **animated), tolerance=0),
        "animated.webp": good(encoded(picture, "WEBP", lossless=True, **animated), tolerance=0),
        "animated.png": good(encoded(picture, "PNG", **animated), tolerance=0),
        "two views.jpg": good(encoded(picture, "MPO", **animated)),
        "one pixel.png": good(encoded(Image.new("RGB", (1, 1), (9, 99, 199))), flat((9, 99, 199)), 0),
        "wide.png": good(encoded(quadrants(20_000, 10)), tolerance=0),
        "tall.jpg": good(encoded(quadrants(10, 20_000), "JPEG", quality=95)),
        "a png.jpg": good(png, tolerance=0),
        "a jpeg.png": good(jpeg),
        "a gif.webp": good(encoded(picture, "GIF"), tolerance=0),
        "UPPER.JPG": good(jpeg),
        "two words and (brackets) [1] #2 100% & +.jpg": good(jpeg),
        "größe 猫 🐈.png": good(png, tolerance=0),
        "with trailing bytes.jpg": good(jpeg + b"\0" * 1000),
        "folder.jpg/inside.jpg": good(jpeg),
        "bomb.png": bad(
            png_of(50_000, 50_000, bit_depth=1, raw=bytes(6251 * 50)), "50000x50000 pixels; expected at most"
        ),
        "empty.jpg": bad(b"", "empty: 0 bytes"),
        "zeros.jpg": bad(bytes(2000), "not an image: starts with bytes 0000000000000000"),
        "text.jpg": bad(b"hello, this is no image at all\n", "not an image"),
        "page.png": bad(b"<!DOCTYPE html><html>404 Not Found</html>", "not an image"),
        "drawing.png": bad(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        "pointer.jpg": bad(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "not an image"),
        "half.jpg": bad(jpeg[: len(jpeg) // 2], "truncated"),
        "almost whole.jpg": bad(jpeg[:-40], "truncated"),
        "half.png": bad(png[: len(png) // 2], ""),
        "only a header.jpg": bad(jpeg[:20], ""),
        "flipped bit.png": bad(png[:45] + bytes([png[45] ^ 16]) + png[46:], ""),
        "no size.gif": bad(b"GIF89a\0\0\0\0\0\0\0;", ""),
        "float with nan.tif": bad(
            encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"), "damaged: grey values"
        ),
        "too many bytes.bmp": bad(encoded(Image.new("RGB", (700, 600)), "BMP"), "size 1260054 bytes"),
        "short.png": bad(struct.pack(">Q", 0x89504E470D0A1A0A), ""),
    }
    return found | {f"turned {n}.jpg": good(oriented(n), seen(n)) for n in ORIENTED}


def seen(orientation: int) -> list:
    """The corners of quadrants that are stored with an orientation."""
    return [[COLOURS[i] for i in row] for row in ORIENTED[orientation]]


def write_odd_images(folder: Folder) -> dict[str, Odd]:
    """Write them to a local folder, with links and folders among them; key -> image of what must be listed."""
    found = odd_images()
    for name, odd in found.items():
        folder.write(name, odd.data)
    os.makedirs(folder.uri_of("empty folder.jpg"))
    os.symlink(folder.uri_of("plain.jpg"), folder.uri_of("link.jpg"))
    os.symlink(folder.uri_of("nowhere"), folder.uri_of("broken link.jpg"))
    os.mkfifo(folder.uri_of("pipe.jpg"))
    for name in (".hidden.jpg", "__MACOSX/plain.jpg", "notes.txt", "Thumbs.db"):
        folder.write(name, found["plain.jpg"].data)
    links = {
        "link.jpg": found["plain.jpg"],
        "broken link.jpg": bad(b"", f"{folder.uri_of('broken link.jpg')} does not"),
    }
    return found | links
