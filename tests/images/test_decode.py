"""decode_image on the many ways in which good pictures are stored."""

import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.images.pictures import (
    BLACK,
    BLUE,
    GREEN,
    QUADRANTS,
    RED,
    WHITE,
    corners,
    decode,
    encoded,
    grey_of,
    photo,
    png_of,
    quadrants,
    same_colours,
    swapped,
)

LOSSY = {"JPEG", "WEBP"}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_formats(format):
    image = decode(encoded(quadrants(), format))
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (3, 16, 16)
    assert image.pixels.flags["C_CONTIGUOUS"]
    assert (image.width, image.height) == (16, 16)
    assert same_colours(corners(image.pixels), QUADRANTS, 60 if format in LOSSY else 0)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_kinds_of_jpeg(options):
    picture = photo(64, 64)
    pixels = decode(encoded(picture, "JPEG", quality=95, **options), 64).pixels
    assert np.abs(pixels.astype(int) - np.asarray(picture).transpose(2, 0, 1)).mean() < 4


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_kinds_of_tiff(compression):
    assert same_colours(corners(decode(encoded(quadrants(), "TIFF", compression=compression)).pixels), QUADRANTS, 60)


def test_size_is_that_of_the_source():
    image = decode(encoded(photo(40, 25)), 8)
    assert (image.width, image.height) == (40, 25)
    assert image.pixels.shape == (3, 8, 8)


def test_bilevel():
    grey = grey_of(encoded(Image.fromarray(np.eye(8) > 0)), 8)
    assert (grey == np.eye(8, dtype=np.uint8) * 255).all()


def test_grey():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (grey_of(encoded(Image.fromarray(ramp)), 16) == ramp).all()
    assert np.abs(grey_of(encoded(Image.fromarray(ramp), "JPEG", quality=100), 16).astype(int) - ramp).max() <= 4


def test_transparency_shows_white():
    alpha = np.array([[0, 255], [128, 0]], np.uint8)
    black = Image.merge("RGBA", [Image.new("L", (2, 2), 0)] * 3 + [Image.fromarray(alpha)])
    grey = Image.merge("LA", [Image.new("L", (2, 2), 0), Image.fromarray(alpha)])
    for data in (
        encoded(black),
        encoded(grey),
        encoded(black, "WEBP", lossless=True),
        encoded(black, "TIFF"),
    ):
        assert grey_of(data, 2).tolist() == [[255, 0], [127, 255]]


def test_premultiplied_alpha():
    tag = struct.Struct("<HHI2H")
    data = encoded(Image.new("RGBA", (2, 2), (64, 0, 0, 128)), "TIFF")
    associated = swapped(data, tag.pack(338, 3, 1, 2, 0), tag.pack(338, 3, 1, 1, 0))  # ExtraSamples
    assert same_colours(decode(associated, 2).pixels[:, 0, 0], (191, 127, 127), 1)  # half of a red of 128


def palette_image():
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8)).convert("P")
    image.putpalette([*RED, *GREEN, *BLUE, *BLACK])
    return image


def test_palette():
    for format in ("PNG", "GIF", "BMP", "TIFF"):
        assert decode(encoded(palette_image(), format), 2).pixels.transpose(1, 2, 0).tolist() == [
            [[*RED], [*GREEN]],
            [[*BLUE], [*BLACK]],
        ]


@pytest.mark.parametrize(
    ("format", "transparency", "first"),
    [("PNG", 0, WHITE), ("GIF", 0, WHITE), ("PNG", b"\x80\xff\xff\xff", (255, 127, 127))],
)
def test_palette_with_transparency(format, transparency, first):
    pixels = decode(encoded(palette_image(), format, transparency=transparency), 2).pixels
    assert tuple(pixels[:, 0, 0]) == first
    assert tuple(pixels[:, 0, 1]) == GREEN


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (0, 0, 0)), ("L", 0), ("1", 0)])
def test_colour_key_transparency(mode, colour):
    image = Image.new(mode, (2, 2), colour)
    image.putpixel((1, 1), WHITE if mode == "RGB" else 255)
    assert grey_of(encoded(image, transparency=colour), 2).tolist() == [[255, 255], [255, 255]]
    assert grey_of(encoded(image), 2).tolist() == [[0, 0], [0, 255]]


def test_cmyk():
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (0, 255, 255, 0)])  # red
    for data in (
        encoded(inks, "TIFF"),
        encoded(inks, "JPEG", quality=100),
    ):  # Pillow writes Adobe's inverted CMYK
        assert same_colours(decode(data).pixels[:, 8, 8], RED, 2)


def test_ycck():
    """An Adobe marker that says: inks as if red, green, blue, then to YCbCr; black inverted."""
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (0, 0, 255, 40)])
    stored = Image.new("RGB", (16, 16), (0, 0, 255)).convert("YCbCr").split()
    planes = [plane.point(lambda v: 255 - v) for plane in stored]  # saving inverts: give it the opposite
    data = bytearray(encoded(Image.merge("CMYK", [*planes, inks.split()[3]]), "JPEG", quality=100, subsampling=0))
    marker = data.index(b"Adobe") + 11
    assert data[marker] == 0
    data[marker] = 2
    expected = inks.convert("RGB").getpixel((0, 0))
    assert same_colours(decode(bytes(data)).pixels[:, 8, 8], expected, 3)


def test_ycbcr():
    assert same_colours(corners(decode(encoded(quadrants().convert("YCbCr"), "TIFF")).pixels), QUADRANTS, 2)


DEEP = np.array([[0, 257], [32896, 65535]])


def pgm(values, maxval):
    return f"P5 {values.shape[1]} {values.shape[0]} {maxval}\n".encode() + values.astype(">u2").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(DEEP.astype(np.uint16))),
        encoded(Image.fromarray(DEEP.astype(np.uint16)), "TIFF"),
        encoded(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
        encoded(Image.fromarray((DEEP / 65535).astype(np.float32)), "TIFF"),
        encoded(Image.fromarray((DEEP / 257).astype(np.float32)), "TIFF"),
        encoded(Image.fromarray(DEEP.astype(np.float32)), "TIFF"),
        pgm(DEEP, 65535),
    ],
    ids=["png16", "tiff16", "tiff32", "float to 1", "float to 255", "float to 65535", "pgm16"],
)
def test_deep_grey_is_scaled(data):
    assert grey_of(data, 2).tolist() == [[0, 1], [128, 255]]


def test_deep_grey_without_agreed_white_is_stretched():
    signed = np.array([[-1000, 0], [0, 1000]], np.int32)
    wide = np.array([[0, 10**6], [10**6, 2 * 10**6]], np.float32)
    flat = np.full((2, 2), -7, np.int32)
    for values in (signed, wide):
        assert grey_of(encoded(Image.fromarray(values), "TIFF"), 2).tolist() == [[0, 128], [128, 255]]
    assert grey_of(encoded(Image.fromarray(flat), "TIFF"), 2).tolist() == [[0, 0], [0, 0]]


def test_16_bit_colour():
    rows = b"".join(b"\0" + struct.pack(">6H", 65535, 0, 32896, 0, 65535, 0) for _ in range(2))
    data = png_of(2, 2, bit_depth=16, colour_type=2, raw=rows)
    assert decode(data, 2).pixels[:, 0].T.tolist() == [[255, 0, 128], [0, 255, 0]]


ORIENTED = {  # orientation -> what a viewer must show of the stored quadrants
    1: [[RED, GREEN], [BLUE, WHITE]],
    2: [[GREEN, RED], [WHITE, BLUE]],
    3: [[WHITE, BLUE], [GREEN, RED]],
    4: [[BLUE, WHITE], [RED, GREEN]],
    5: [[RED, BLUE], [GREEN, WHITE]],
    6: [[BLUE, RED], [WHITE, GREEN]],
    7: [[WHITE, GREEN], [BLUE, RED]],
    8: [[GREEN, WHITE], [RED, BLUE]],
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(quadrants(24, 16), format, exif=exif))
    assert same_colours(corners(image.pixels), ORIENTED[orientation], 60)
    assert (image.width, image.height) == ((24, 16) if orientation < 5 else (16, 24))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_damaged_exif_does_not_damage_the_picture(exif):
    data = encoded(quadrants(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of it, which under "error" would be the outcome
        pixels = decode(data[:2] + segment + data[2:]).pixels
    assert same_colours(corners(pixels), QUADRANTS, 60)


def test_unknown_orientation_is_none():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert same_colours(corners(decode(encoded(quadrants(), exif=exif)).pixels), QUADRANTS)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame(format):
    more = [Image.new("RGB", (16, 16), BLACK)]
    data = encoded(quadrants(), format, save_all=True, append_images=more)
    assert same_colours(corners(decode(data).pixels), QUADRANTS, 60)


def test_mpo_gives_the_first_picture():
    data = encoded(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16), BLACK)])
    assert same_colours(corners(decode(data).pixels), QUADRANTS, 60)


def test_buffers_are_data_too():
    data = encoded(quadrants())
    assert (decode(memoryview(data)).pixels == decode(data).pixels).all()
