"""One corruption of one image: what it depends on, and that each does something."""

import numpy as np
import pytest

from seit_ray.evaluation.corruptions.corrupt import corrupted, generator
from seit_ray.evaluation.corruptions.strengths import NAMES, SEVERITIES
from tests.tiny_images import picture

PLAIN = {"brightness", "contrast", "saturate", "pixelate", "jpeg_compression", "gaussian_blur", "defocus_blur"}
PLAIN |= {"zoom_blur"}  # these draw nothing

OTHERWISE = {"elastic_transform", "saturate", "spatter", "glass_blur", "frost", "fog"}  # hide more, differ no more
RISING = sorted({*NAMES} - OTHERWISE)


def pixels(side, seed=0):
    """A smooth picture uint8 [3,H,W] with an edge."""
    found = np.asarray(picture("cat", seed, side)).transpose(2, 0, 1).copy()
    found[:, side // 3 :, side // 2] = 255
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("strengths", "side"), [("imagenet_c", 72), ("cifar10_c", 32)])
def test_it_depends_on_key_and_severity_alone(name, strengths, side):
    image = pixels(side)
    before, state = image.copy(), np.random.get_state()[1].tolist()
    found = [corrupted(image, name, s, key="a.png", strengths=strengths) for s in SEVERITIES]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in found)
    assert np.array_equal(image, before)
    assert np.random.get_state()[1].tolist() == state
    changes = [np.abs(one.astype(float) - image).mean() for one in found]
    assert sum(change > 0.1 for change in changes) >= 4
    again = [corrupted(image, name, s, key="a.png", strengths=strengths) for s in SEVERITIES[::-1]][::-1]
    assert all(np.array_equal(*pair) for pair in zip(found, again, strict=True))
    other = corrupted(image, name, 4, key="b.png", strengths=strengths)
    assert np.array_equal(other, found[3]) is (name in PLAIN)


@pytest.mark.parametrize("name", RISING)
def test_severities_rise(name):
    def change(severity):
        each = (corrupted(pixels(64, i), name, severity, key=str(i), strengths="imagenet_c") for i in range(3))
        return np.mean([np.square(one.astype(float) - pixels(64, i)).mean() for i, one in enumerate(each)])

    assert change(1) < change(3) < change(5)


def test_draws_of_two_cases_have_nothing_in_common():
    cases = [("k", "fog", 1), ("k", "fog", 2), ("k", "snow", 1), ("l", "fog", 1), ("k\udce9", "fog", 1)]
    assert len({generator(*case).integers(1 << 62) for case in cases}) == len(cases)
    assert generator("k", "fog", 1).integers(1 << 62) == generator("k", "fog", 1).integers(1 << 62)


def test_an_image_that_is_not_square():
    image = np.ascontiguousarray(pixels(72)[:, :40])
    for name in NAMES:
        assert corrupted(image, name, 3, key="a", strengths="imagenet_c").shape == (3, 40, 72)
