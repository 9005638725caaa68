"""decode_image on what is no picture, or a broken or dangerous one."""

import random
import re
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from seit_ray.images import ImageError
from tests.images.pictures import decode, encoded, photo, png_of, quadrants, swapped

PHOTO = {format: encoded(photo(64, 64), format) for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM")}
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
