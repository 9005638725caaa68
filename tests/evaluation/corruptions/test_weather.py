"""Weather: colours against the standard library's, distances against a plain search."""

import colorsys

import numpy as np
import pytest

from seit_ray.evaluation.corruptions import weather


def image(side=16, seed=0):
    """A random image [3,H,W], one pixel of it black and one white."""
    found = np.random.default_rng(seed).random((3, side, side), np.float32)
    found[:, 0, 0], found[:, 0, 1] = 0, 1
    return found


def rng(seed=0):
    """Random numbers."""
    return np.random.default_rng(seed)


def test_brightness_raises_the_value_of_hsv():
    expected = np.empty_like(image())
    for y in range(16):
        for x in range(16):
            hue, saturation, value = colorsys.rgb_to_hsv(*image()[:, y, x].tolist())
            expected[:, y, x] = colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3))
    assert weather.brightness(image(), 0.3, rng()) == pytest.approx(expected, abs=1e-5)


def test_fog_keeps_the_brightest_value_and_hides():
    found = weather.fog(image(), (2.0, 2.0), rng())
    assert found.max() <= 1 + 1e-5
    assert found.min() >= 0
    # every channel is moved alike: differences between them shrink by one factor
    assert (found[0] - found[1]) == pytest.approx((image()[0] - image()[1]) / 3, abs=1e-5)


def test_snow_brightens():
    found = weather.snow(image(), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55), rng())
    assert found.mean() > image().mean() + 0.1
    pale = weather.snow(image(), (-9, 0.1, 1, 0.5, 3, 1, 0.8), rng())  # no flakes: the paler image alone
    grey = np.tensordot([0.299, 0.587, 0.114], image(), 1) * 1.5 + 0.5
    assert pale == pytest.approx(0.8 * image() + 0.2 * np.maximum(image(), grey), abs=1e-5)


@pytest.mark.parametrize("side", [16, 80])
def test_frost_is_a_cut_out_of_a_drawn_picture(side):
    black = np.zeros((3, side, side), np.float32)
    first, second = (weather.frost(black, (1, 0.5), rng(seed)) for seed in (1, 2))
    assert not np.array_equal(first, second)
    assert 0 <= first.min() < first.max() <= 0.5
    assert weather.frost(image(side), (0.6, 0), rng()) == pytest.approx(0.6 * image(side))
    assert np.array_equal(weather.frost_picture(0), weather.frost_picture(0))
    assert (weather.frost_picture(1).min(), weather.frost_picture(1).max()) == (0, 1)


def test_distance_to_the_edge_of_drops():
    is_wet = np.zeros((30, 40), bool)
    is_wet[5:12, 8:20] = is_wet[20, 30] = True
    wet = np.argwhere(is_wet)
    rim = [(y, x) for y, x in wet if not (is_wet[y - 1 : y + 2, x].all() and is_wet[y, x - 1 : x + 2].all())]
    found = weather.edge_distance(is_wet)
    places = np.stack(np.mgrid[:30, :40], axis=-1).reshape(-1, 1, 2)
    exact = np.sqrt(((places - np.array(rim)) ** 2).sum(-1).min(1)).reshape(30, 40)
    near = exact <= weather.FARTHEST
    assert near.any()
    assert found[near] == pytest.approx(exact[near], abs=1e-4)
    assert (found[~near] > weather.FARTHEST).all()
    assert (weather.edge_distance(np.zeros((5, 5), bool)) > weather.FARTHEST).all()


def test_spatter_touches_drops_alone():
    water = weather.spatter(image(64), (0.65, 0.3, 2, 0.68, 0.5, 0), rng())
    touched = (water != image(64)).any(axis=0)
    assert 0.02 < touched.mean() < 0.6
    assert (water >= image(64)).all()
    mud = weather.spatter(np.ones((3, 64, 64), np.float32), (0.65, 0.3, 1, 0.65, 1.5, 1), rng())
    assert mud.min() >= 20 / 255 - 1e-5
    assert (mud[2] < 0.5).any()
    dry = weather.spatter(image(), (0.0, 0.01, 1, 0.69, 0.5, 0), rng())
    assert np.array_equal(dry, image())
