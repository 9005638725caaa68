"""Each of the odd images is decoded right, or rejected with its reason."""

import pytest

from seit_ray.images import ImageError
from tests.images.odd_images import odd_images
from tests.images.pictures import corners, decode, same_colours

ODD = odd_images()


@pytest.mark.parametrize("name", [name for name, odd in ODD.items() if odd.corners])
def test_good(name):
    pixels = decode(ODD[name].data).pixels
    assert pixels.shape == (3, 16, 16)
    assert same_colours(corners(pixels), ODD[name].corners, ODD[name].tolerance)


@pytest.mark.parametrize("name", [name for name, odd in ODD.items() if not odd.corners and "bytes." not in name])
def test_bad(name):
    with pytest.raises(ImageError) as error:
        decode(ODD[name].data)
    assert str(error.value).startswith(ODD[name].reason)
    assert "\n" not in str(error.value)
