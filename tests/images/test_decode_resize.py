"""The two ways to bring a picture to its size."""

import numpy as np
import pytest
from PIL import Image

from seit_ray.images import ImageError
from tests.images.pictures import decode, encoded, photo


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
    assert decode(encoded(Image.new("L", (1, 60_000), 9)), 64, resize="crop").pixels.tolist() == [[[9] * 64] * 64] * 3


@pytest.mark.parametrize("options", [{"resize": "stretch"}, {"size": 0}])
def test_settings_are_checked(options):
    with pytest.raises(ValueError, match=r"expected one of.*squash") as error:
        decode(b"", **options)
    assert not isinstance(error.value, ImageError)


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(64, 48), (20, 20), (48, 20)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_pixels_lie_where_they_are_wanted(mode, resize, size, format):
    data = encoded(photo(*size), format)
    place = np.zeros((2, 3, 20, 20), np.uint8)
    image = decode(data, 20, resize=resize, mode=mode, out=place[1])
    assert np.shares_memory(image.pixels, place)
    assert (place[1] == decode(data, 20, resize=resize, mode=mode).pixels).all()
    assert not place[0].any()
