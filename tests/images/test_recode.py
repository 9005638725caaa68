"""Fewer bytes of the same image, each way that rivals of tokens do it."""

import io

import numpy as np
import pytest
from PIL import Image, features

from seit_ray.images.decode import ImageError, decode_image
from seit_ray.images.recode import Recoding, check_writes


def picture(width=60, height=40):
    """A smooth picture with some noise."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    values = np.stack([x, y, 255 - x], axis=-1) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def file_of(image, codec="PNG", **options):
    sink = io.BytesIO()
    image.save(sink, codec, **options)
    return sink.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def test_the_source_stays_byte_for_byte():
    data = file_of(picture(), "JPEG", quality=90)
    assert Recoding("source").of(data) is data


@pytest.mark.parametrize(("codec", "expected"), [("JPEG", "JPEG"), ("PNG", "PNG"), ("BMP", "PNG")])
def test_a_smaller_image_keeps_its_aspect_and_its_codec(codec, expected):
    found = opened(Recoding("size", 20).of(file_of(picture(), codec)))
    assert (found.size, found.format) == ((30, 20), expected)
    assert opened(Recoding("size", 400).of(file_of(picture(), codec))).size == (60, 40)  # none is enlarged


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_a_lower_quality_takes_fewer_bytes_and_is_further_off(kind):
    if kind != "jpeg" and not features.check(kind):
        pytest.skip(f"Pillow without {kind}")
    data = file_of(picture())
    whole = decode_image(data, image_size=40).pixels.astype(float)
    sizes, errors = [], []
    for quality in (90, 40, 5):
        found = Recoding(kind, quality).of(data)
        assert opened(found).format == kind.upper()
        sizes.append(len(found))
        errors.append(float(np.square(decode_image(found, image_size=40).pixels - whole).mean()))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_a_palette_has_so_many_colours_and_a_png_of_few_bits():
    for colours, bits in ((32, 8), (4, 2), (2, 1)):
        data = Recoding("palette", colours).of(file_of(picture()))
        assert data[24] == bits  # bit depth of IHDR
        values = np.asarray(opened(data).convert("RGB")).reshape(-1, 3)
        assert len(np.unique(values, axis=0)) == colours


def test_what_is_larger_than_the_model_sees_is_scaled_down_first():
    data = file_of(picture(), "JPEG", quality=95)
    assert opened(Recoding("jpeg", 50, short_side=10).of(data)).size == (15, 10)
    assert opened(Recoding("source", short_side=10).of(data)).size == (60, 40)


@pytest.mark.parametrize("recoding", [Recoding("source"), Recoding("jpeg", 10)])
def test_a_damaged_file_is_an_image_error(recoding):
    with pytest.raises(ImageError, match="truncated"):
        recoding.of(file_of(picture(), "JPEG")[:400])


def test_an_unknown_kind_and_a_codec_that_is_not_there_are_named(monkeypatch):
    with pytest.raises(ValueError, match="recoding 'gif'; expected one of source, size"):
        Recoding("gif")
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ValueError, match=r"avif with a Pillow that does not write it; .* set pictures\.avif=\[\]"):
        check_writes("avif")
    check_writes("palette")
