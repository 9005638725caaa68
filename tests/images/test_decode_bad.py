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
    "html page": (b"<!DOCTYPE html><html>404</html>", "^not an image: a web page, which is not read; expected JPEG"),
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
    with pytest.raises(ImageError, match=f"^16x16 pixels; expected at most {max_pixels}; raise max_image_pixels$"):
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


@pytest.mark.parametrize("format", ["AVIF", "JPEG2000"])
def test_formats_of_other_names_are_decoded_or_named(format):
    data = encoded(quadrants(), format)
    if format == "AVIF":
        assert decode(data).width == 16
        with pytest.raises(ImageError, match=r"^16x16 pixels; expected at most 255"):
            decode(data, max_pixels=255)
        data = data.replace(b"avif", b"heic")  # a brand of HEIC, as iPhones write it
    name = {"AVIF": "HEIC", "JPEG2000": "JPEG 2000"}[format]
    with pytest.raises(ImageError, match=rf"^{name}, which is not read; expected JPEG, PNG, .*; convert it$"):
        decode(data)


@pytest.mark.parametrize("data", [b"\xff\x0a\x00", b"\0\0\0\x0cJXL \r\n\x87\n\0\0"])
def test_jpeg_xl_is_named(data):
    with pytest.raises(ImageError, match=r"^JPEG XL, which is not read"):
        decode(data)


def test_a_large_text_in_a_png_is_passed_over():
    about = PngImagePlugin.PngInfo()
    about.add_text("comment", "x" * (2 << 20), zip=True)
    assert np.array_equal(decode(encoded(quadrants(), pnginfo=about)).pixels, decode(encoded(quadrants())).pixels)


def test_a_damaged_text_in_a_png_is_passed_over_and_damaged_pixels_are_not():
    about = PngImagePlugin.PngInfo()
    about.add_text("comment", "some text")
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(quadrants(), pnginfo=about, exif=exif)
    damaged = swapped(data, b"some text", b"same text")
    assert np.array_equal(decode(damaged).pixels, decode(data).pixels)  # turned as its EXIF says
    assert not np.array_equal(decode(data).pixels, decode(encoded(quadrants())).pixels)
    at = data.index(b"IDAT") + 8
    for bad in (damaged[:at] + bytes([damaged[at] ^ 1]) + damaged[at + 1 :], damaged[:-40]):
        with pytest.raises(ImageError):
            decode(bad)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_jpeg_without_its_end_mark_is_shown_and_without_pixels_is_not(mode):
    data = encoded(photo(64, 64), "JPEG")
    whole = decode(data, mode=mode).pixels
    for missing in (1, 2):
        assert np.array_equal(decode(data[:-missing], mode=mode).pixels, whole)
    for missing in (3, 4, 10):
        with pytest.raises(ImageError, match=r"^truncated"):
            decode(data[:-missing], mode=mode)
    with pytest.raises(ImageError, match=r"^truncated"):  # which of its scans are missing cannot be told
        decode(encoded(photo(64, 64), "JPEG", progressive=True)[:-2], mode=mode)


def test_white_of_16_bit_pictures():
    values = np.array([[0, 4095], [2048, 65535]], np.uint16)
    data = encoded(Image.fromarray(values))
    assert decode(data, 2).pixels[0].tolist() == [[0, 16], [8, 255]]
    assert decode(data, 2, white_level=4095).pixels[0].tolist() == [[0, 255], [128, 255]]
    colours = encoded(quadrants())
    assert np.array_equal(decode(colours, white_level=4095).pixels, decode(colours).pixels)


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
