"""decode_image on odd and on bad images, all made here."""

import io
import random
import re
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

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


# ---- pictures that must be read

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
    assert same_colours(
        corners(decode(encoded(quadrants(), "TIFF", compression=compression)).pixels), QUADRANTS, 60
    )


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
    assert (
        np.abs(grey_of(encoded(Image.fromarray(ramp), "JPEG", quality=100), 16).astype(int) - ramp).max() <= 4
    )


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
    data = bytearray(
        encoded(Image.merge("CMYK", [*planes, inks.split()[3]]), "JPEG", quality=100, subsampling=0)
    )
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


# ---- resizing


def test_squash_is_bicubic_of_both_sides():
    picture = photo(50, 30)
    expected = np.asarray(picture.resize((20, 20), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert (decode(encoded(picture), 20).pixels == expected).all()


@pytest.mark.parametrize(("width", "height"), [(50, 30), (30, 50), (31, 31), (20, 47), (7, 9), (64, 20)])
def test_crop_is_short_side_then_centre(width, height):
    """Against the two steps of torchvision's Resize(20) and CenterCrop(20)."""
    picture = photo(width, height)
    long = int(20 * max(width, height) / min(width, height))
    scaled = picture.resize((20, long) if width <= height else (long, 20), Image.Resampling.BICUBIC)
    left, top = round((scaled.width - 20) / 2), round((scaled.height - 20) / 2)
    expected = np.asarray(scaled.crop((left, top, left + 20, top + 20))).transpose(2, 0, 1).astype(int)
    found = decode(encoded(picture), 20, resize="crop")
    assert np.abs(found.pixels - expected).max() <= 1
    assert (found.width, found.height) == (width, height)


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_right_size_is_not_resampled(resize):
    noise = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)
    assert (decode(encoded(Image.fromarray(noise)), resize=resize).pixels == noise.transpose(2, 0, 1)).all()


def test_crop_of_right_height_is_cut_not_resampled():
    noise = np.random.default_rng(3).integers(0, 256, (16, 40, 3), np.uint8)
    pixels = decode(encoded(Image.fromarray(noise)), resize="crop").pixels
    assert (pixels == noise[:, 12:28].transpose(2, 0, 1)).all()


def test_crop_of_a_strip_stays_small():
    assert (
        decode(encoded(Image.new("L", (1, 60_000), 9)), 64, resize="crop").pixels.tolist()
        == [[[9] * 64] * 64] * 3
    )


@pytest.mark.parametrize("options", [{"resize": "stretch"}, {"size": 0}])
def test_settings_are_checked(options):
    with pytest.raises(ValueError, match=r"expected one of.*squash") as error:
        decode(b"", **options)
    assert not isinstance(error.value, ImageError)


# ---- pictures that must be refused


def png_of(width, height, *, bit_depth=8, colour_type=0, raw=b"", checksum=0):
    """A PNG file from its parts."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ checksum)
        )

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def swapped(data, old, new):
    assert old in data
    return data.replace(old, new)


PHOTO = {
    format: encoded(photo(64, 64), format) for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM")
}
BAD = {
    "empty": (b"", "^empty: 0 bytes$"),
    "html page": (b"<!DOCTYPE html><html>404</html>", "^not an image: starts with bytes 3c21444f43545950"),
    "json": (b'{"error": "expired"}', "^not an image"),
    "zeros": (bytes(1000), "^not an image: starts with bytes 0000000000000000"),
    "one byte": (b"\xff", "^not an image: starts with bytes ff;"),
    "pdf": (b"%PDF-1.7 ...", "^not an image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^not an image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "^not an image"),
    "zip": (b"PK\x03\x04aaaaaaaaaaaaaaaaaaa", "^not an image"),
    "wave file": (b"RIFF\x24\0\0\0WAVEfmt ", "^not an image"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "^not an image"),
    "only a jpeg mark": (b"\xff\xd8\xff", "^(damaged|truncated): "),
    "only a png mark": (b"\x89PNG\r\n\x1a\n", "^(damaged|truncated): "),
    "only a bmp mark": (b"BM", "^(damaged|truncated): "),
    "only a gif mark": (b"GIF89a", "^(damaged|truncated): "),
    "only a webp mark": (b"RIFF\0\0\0\0WEBPVP8 ", "^(damaged|truncated): "),
    "only a tiff mark": (b"II*\0", "^(damaged|truncated): "),
    "ppm without pixels": (b"P6 4 4 255\n", "^truncated: "),
    "ppm with bad header": (b"P6 4 x 255\n" + bytes(48), "^damaged: "),
    "png of no width": (png_of(0, 4), "^(damaged|truncated): "),
    "png with wrong checksums": (
        png_of(2, 2, raw=bytes(6), checksum=1),
        "^damaged: .*(broken PNG|IHDR|checksum)",
    ),
    "png with broken compression": (swapped(PHOTO["PNG"], b"IDAT", b"IDAT\0")[:-1], "^(damaged|truncated): "),
    "png with too little": (png_of(64, 64, raw=bytes(100)), "^truncated: "),
    "gif of no size": (b"GIF89a\0\0\0\0\0\0\0;", "^(damaged|truncated): "),
    "float picture with nan": (
        encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"),
        "^damaged: grey values that are not finite$",
    ),
}
BAD |= {f"half a {name}": (data[: len(data) // 2], "^(truncated|damaged): ") for name, data in PHOTO.items()}
BAD |= {f"jpeg without the last {n} bytes": (PHOTO["JPEG"][:-n], "^truncated: ") for n in (20, 100)}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_bad_images(data, reason):
    reasons = set()
    for _ in range(2):
        with pytest.raises(ImageError, match=reason) as error:
            decode(data)
        reasons.add(str(error.value))
    assert len(reasons) == 1  # the same in every run, for it is stored
    text = reasons.pop()
    assert "\n" not in text
    assert not re.search("0x[0-9a-f]{6}|BytesIO", text)
    assert len(text) < 200


@pytest.mark.parametrize("max_pixels", [100, 255])
def test_too_many_pixels_is_seen_in_the_header(max_pixels):
    with pytest.raises(ImageError, match=f"^16x16 pixels; expected at most {max_pixels}; raise max_pixels$"):
        decode(encoded(quadrants()), max_pixels=max_pixels)
    assert decode(encoded(quadrants()), max_pixels=256).width == 16


def test_decompression_bomb_is_refused_without_warning_or_memory():
    bomb = png_of(100_000, 100_000, bit_depth=1, raw=bytes(12_501 * 100))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match=r"^100000x100000 pixels; expected at most 178956970"):
            decode(bomb)
    assert not seen


def test_pillows_own_limit_does_not_count(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for format in ("PNG", "JPEG", "BMP", "PPM"):
            assert decode(encoded(quadrants(), format)).width == 16


def test_a_bomb_of_text_is_refused():
    about = PngImagePlugin.PngInfo()
    about.add_text("comment", "x" * (2 << 20), zip=True)
    with pytest.raises(ImageError, match=r"^damaged: "):
        decode(encoded(quadrants(), pnginfo=about))


def test_truncated_images_are_refused_even_when_another_library_allows_them(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageError, match=r"^truncated"):
        decode(PHOTO["JPEG"][:-100])


def test_running_out_of_memory_is_not_the_fault_of_the_image(monkeypatch):
    def no_memory(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_memory)
    with pytest.raises(MemoryError):
        decode(PHOTO["BMP"])


@pytest.mark.parametrize("format", PHOTO)
def test_random_damage_gives_pixels_or_an_image_error(format):
    """Whatever bytes change, nothing else comes out, and the same twice."""
    choose = random.Random(format)
    for _ in range(40):
        data = bytearray(PHOTO[format])
        for _ in range(choose.randint(1, 8)):
            data[choose.randrange(choose.choice([min(len(data), 400), len(data)]))] = choose.randrange(256)
        outcomes = []
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd TIFF tags
                try:
                    outcomes.append(decode(bytes(data), max_pixels=10**6).pixels.tobytes())
                except ImageError as error:
                    outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


def test_threads_do_not_disturb_each_other():
    jobs = [PHOTO["JPEG"], PHOTO["PNG"], PHOTO["JPEG"][:-100], b"no"] * 20
    found = [None] * len(jobs)

    def work(start):
        for i in range(start, len(jobs), 4):
            try:
                found[i] = decode(jobs[i]).pixels.sum()
            except ImageError as error:
                found[i] = str(error)[:9]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == found[:4] * 20
    assert found[2] == "truncated"
    assert found[3] == "not an im"
