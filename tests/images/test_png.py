"""PNGs of nothing but pixels are read without looking for more: the same pixels, and the same verdict on damage."""

import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from seit_ray.images.png import plain_png
from tests.images.pictures import by_pillow, encoded, outcome, photo, quadrants


def chunk(name, body, *, checksum=0):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ checksum)


def behind_the_header(data, *chunks):
    return data[:33] + b"".join(chunks) + data[33:]


def behind_the_pixels(data, *chunks):
    return data[:-12] + b"".join(chunks) + data[-12:]


def texts(**named):
    found = PngImagePlugin.PngInfo()
    for name, text in named.items():
        found.add_text(name, text)
    return found


def cut_up(data):
    """The same pixels in many chunks, one of them empty."""
    packed = data[41:-16]
    assert encoded(photo(32, 24))[37:41] == b"IDAT"
    parts = [packed[at : at + 100] for at in range(0, len(packed), 100)]
    return data[:33] + b"".join(chunk(b"IDAT", part) for part in [*parts[:2], b"", *parts[2:]]) + data[-12:]


PICTURE = encoded(photo(32, 24))
TURNED = Image.Exif()
TURNED[0x112] = 6
PLAIN = {
    "colour": PICTURE,
    "grey": encoded(photo(32, 24).convert("L")),
    "one pixel": encoded(Image.new("RGB", (1, 1), (9, 99, 199))),
    "in parts": cut_up(PICTURE),
    "print size": encoded(photo(32, 24), dpi=(300, 300)),
    "profile": encoded(photo(32, 24), icc_profile=bytes(500)),
    "damaged print size": behind_the_header(PICTURE, chunk(b"pHYs", b"12", checksum=1)),
    "time behind the pixels": behind_the_pixels(PICTURE, chunk(b"tIME", bytes(7))),
}
OTHERS = {
    "text": encoded(photo(32, 24), pnginfo=texts(Title="a picture")),
    "turned": encoded(photo(32, 24), exif=TURNED),
    "turned, behind the pixels": behind_the_pixels(PICTURE, chunk(b"eXIf", TURNED.tobytes()[6:])),
    "turned in words": encoded(photo(32, 24), pnginfo=texts(**{"XML:com.adobe.xmp": 'tiff:Orientation="6"'})),
    "see-through colour": encoded(quadrants(), transparency=(255, 0, 0)),
    "alpha": encoded(photo(32, 24).convert("RGBA")),
    "palette": encoded(photo(32, 24).quantize(16)),
    "16 bits": encoded(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257)),
    "one bit": encoded(Image.new("1", (16, 16), 1)),
    "animated": encoded(photo(32, 24), save_all=True, append_images=[photo(32, 24, seed=1)]),
    "without an end": PICTURE[:-12],
    "pixels in two places": behind_the_pixels(PICTURE, chunk(b"tIME", bytes(7)), chunk(b"IDAT", b"")),
    "a header that lies": PICTURE[:20] + b"\7" + PICTURE[21:],
    "a JPEG": encoded(photo(32, 24), "JPEG"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
def test_pixels_are_those_of_pillow(monkeypatch, name):
    data = (PLAIN | OTHERS)[name]
    for options in ({"size": 16}, {"size": 24, "resize": "crop"}, {"size": 16, "max_pixels": 767}, {"mode": "fast"}):
        assert outcome(data, **options) == by_pillow(monkeypatch, "plain_png", data, **options)
    assert (plain_png(data) is not None) == (name in PLAIN)


@pytest.mark.parametrize("name", PLAIN)
def test_pillow_looks_at_none_of_the_plain_ones(monkeypatch, name):
    expected = outcome(PLAIN[name])
    monkeypatch.setattr("seit_ray.images.decode.open_image", None)
    assert outcome(PLAIN[name]) == expected


@pytest.mark.parametrize("name", ["colour", "grey", "in parts", "print size"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_is_judged_as_pillow_judges_it(monkeypatch, name):
    """Cut, changed, dropped and inserted bytes: the same pixels or the same reason."""
    choose = random.Random(name)
    data, good = PLAIN[name], 0
    for number in range(160):
        damaged = bytearray(data)
        at = choose.randrange(choose.choice([len(data), 60]))
        if number % 4 == 0:
            del damaged[at:]
        elif number % 4 == 1:
            damaged[at] ^= 1 << choose.randrange(8)
        elif number % 4 == 2:
            del damaged[at : at + choose.randint(1, 8)]
        else:
            damaged[at:at] = choose.randbytes(choose.randint(1, 8))
        found = outcome(bytes(damaged), max_pixels=10**6)
        assert found == by_pillow(monkeypatch, "plain_png", bytes(damaged), max_pixels=10**6)
        good += not isinstance(found, str)
    assert good < 160
