"""JPEGs are decoded without Pillow where that gives the same pixels, and by Pillow where it does not."""

import random
import sys

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile

from seit_ray.images import jpeg
from tests.images.pictures import by_pillow, decode, encoded, outcome, photo, quadrants

KINDS = {
    "4:2:0": {},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 30},
    "restarts": {"restart_marker_rows": 1},
    "rgb": {"keep_rgb": True},
    "comment and profile": {"comment": b"a picture", "icc_profile": bytes(500)},
    "turned": {"exif": Image.Exif()},
}
KINDS["turned"]["exif"][0x112] = 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (250, 187)])
def test_pixels_are_those_of_pillow(monkeypatch, kind, mode, size):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    picture = Image.blend(photo(*size), noise, 0.2).convert(mode)
    options = {} if mode == "L" and kind == "rgb" else KINDS[kind]
    data = encoded(picture, "JPEG", **options)
    for resize in ("squash", "crop"):
        asked = {"size": 29, "resize": resize}
        assert outcome(data, **asked) == by_pillow(monkeypatch, "jpeg_size", data, **asked)


@pytest.mark.parametrize("kind", KINDS)
def test_pillow_decodes_none_of_them(monkeypatch, kind):
    data = encoded(photo(40, 30), "JPEG", **KINDS[kind])
    expected = outcome(data)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert outcome(data) == expected
    assert jpeg.is_plain_jpeg(data) == (kind != "turned")


def test_inks_are_left_to_pillow():
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert jpeg.jpeg_size(data) is None
    assert jpeg.jpeg_size(encoded(quadrants(), "JPEG")) == (16, 16)
    assert jpeg.jpeg_size(b"\xff\xd8\xff") is None


@pytest.mark.parametrize("kind", ["4:2:0", "progressive", "restarts", "turned"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
def test_damage_is_judged_as_pillow_judges_it(monkeypatch, kind):
    """Cut, changed, dropped and inserted bytes: the same pixels or the same reason."""
    choose = random.Random(kind)
    data = encoded(photo(48, 40), "JPEG", **KINDS[kind])
    good = 0
    for number in range(160):
        damaged = bytearray(data)
        at = choose.randrange(choose.choice([len(data), min(len(data), 700)]))
        if number % 4 == 0:
            del damaged[at:]
        elif number % 4 == 1:
            damaged[at] = choose.choice([0, 1, 255, 0xD8, 0xD9, 0xDA])
        elif number % 4 == 2:
            del damaged[at : at + choose.randint(1, 8)]
        else:
            damaged[at:at] = choose.randbytes(choose.randint(1, 8))
        found = outcome(bytes(damaged), max_pixels=10**6)
        assert found == by_pillow(monkeypatch, "jpeg_size", bytes(damaged), max_pixels=10**6)
        good += not isinstance(found, str)
    assert 0 < good < 160


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(300, 200), (101, 257), (700, 60)])
def test_fast_is_near_exact_and_tells_the_same_size(resize, format, size):
    data = encoded(photo(*size), format)
    exact, fast = (decode(data, 48, resize=resize, mode=mode) for mode in ("exact", "fast"))
    assert (fast.width, fast.height) == size
    assert fast.pixels.shape == (3, 48, 48)
    assert fast.pixels.flags["C_CONTIGUOUS"]
    error = np.abs(exact.pixels.astype(int) - fast.pixels)
    assert error.mean() < 4
    assert error.max() < 60


def test_fast_is_exact_where_nothing_is_resized():
    for data in (encoded(photo(32, 32), "JPEG"), encoded(photo(32, 32)), encoded(photo(50, 32))):
        resize = "crop" if data == encoded(photo(50, 32)) else "squash"
        pixels = [decode(data, 32, resize=resize, mode=mode).pixels for mode in ("exact", "fast")]
        assert np.array_equal(*pixels)


def test_fast_decodes_large_jpegs_scaled(monkeypatch):
    seen = []
    decode_jpeg = simplejpeg.decode_jpeg

    def watched(*arguments, **options):
        pixels = decode_jpeg(*arguments, **options)
        seen.append(pixels.shape)
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watched)
    turned = encoded(photo(400, 200), "JPEG", **KINDS["turned"])
    image = decode(turned, 50, mode="fast")
    assert (image.width, image.height) == (200, 400)
    decode(encoded(photo(400, 200), "JPEG"), 101, mode="fast")
    assert seen == [(50, 100, 3), (200, 400, 3)]


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="mode 'quick'; expected"):
        decode(encoded(quadrants()), mode="quick")


def test_without_the_library_no_image_is_a_reject(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(ImportError):
        decode(encoded(quadrants(), "JPEG"), 16)
