"""Blurs against plain loops."""

import numpy as np
import pytest

from seit_ray.evaluation.corruptions.blur import defocus_blur, disk, glass_blur, moved, scattered, zoom_blur
from seit_ray.evaluation.corruptions.sampling import zoomed


def image(height=20, width=16, seed=0):
    """A random image [3,H,W]."""
    return np.random.default_rng(seed).random((3, height, width), np.float32)


class Drawn:
    """Gives the numbers that were drawn for all pixels of a round one after the other, as a loop asks for them."""

    def __init__(self, shape, distance, seed):
        rng = np.random.default_rng(seed)
        self.down, self.right = (rng.integers(-distance, distance, shape) for _ in range(2))


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_glass_is_a_loop_over_pixels_from_the_last(distance):
    height, width = 20, 16
    inner = (height - 2 * distance, width - 2 * distance)
    drawn, found = Drawn(inner, distance, 5), np.arange(height * width).reshape(height, width)
    for row in range(height - distance, distance, -1):
        for column in range(width - distance, distance, -1):
            i, j = row - distance - 1, column - distance - 1
            found[row, column] = found[row + drawn.down[i, j], column + drawn.right[i, j]]
    assert np.array_equal(scattered(height, width, distance, np.random.default_rng(5)), found.ravel())
    assert len(np.unique(found)) < found.size  # colours are copied, not exchanged


def test_glass_moves_pixels_between_two_gaussians():
    rng = np.random.default_rng(1)
    found = glass_blur(image(), (0.7, 2, 1), rng)
    assert found.shape == image().shape
    assert np.abs(found - image()).max() > 0.1
    flat = np.full((3, 12, 12), 0.5, np.float32)
    assert glass_blur(flat, (0.7, 2, 1), rng) == pytest.approx(flat, abs=1 / 255)


def test_a_disk():
    sharp = disk(3, 0.1)
    assert sharp.shape == (17, 17)
    assert sharp.sum() == pytest.approx(1)
    assert (sharp > 1e-9).sum() == 29  # whole pixels within 3 of the middle
    assert disk(10, 0.5).shape == (21, 21)
    assert disk(10, 0.5).sum() == pytest.approx(1, abs=0.02)  # its edge is mirrored, as published
    assert sharp == pytest.approx(sharp[::-1].T)
    flat = np.full((3, 12, 12), 0.5, np.float32)
    assert defocus_blur(flat, (3, 0.1), np.random.default_rng(0)) == pytest.approx(flat, abs=1e-5)


@pytest.mark.parametrize(("angle", "step"), [(0, (0, 1)), (90, (1, 0)), (45, (1, 1)), (-90, (-1, 0))])
def test_a_trail_lies_along_its_angle(angle, step):
    point = np.zeros((1, 31, 31), np.float32)
    point[0, 15, 15] = 1
    found = moved(point, 3, 2.0, angle=angle)[0]
    assert found.sum() == pytest.approx(1)
    weights = np.exp(-0.5 * (np.arange(7) / 2) ** 2)
    places = [(15 - round(i * step[0] / np.hypot(*step)), 15 - round(i * step[1] / np.hypot(*step))) for i in range(7)]
    for place in set(places):
        own = sum(w for w, other in zip(weights / weights.sum(), places, strict=True) if other == place)
        assert found[place] == pytest.approx(own, abs=1e-6)
    assert (found > 0).sum() == len(set(places))


def test_a_zoom_blur_is_a_mean():
    expected = (image() + image() + zoomed(image(), 1.1) + zoomed(image(), 1.2)) / 4
    assert zoom_blur(image(), (0.1, 3), np.random.default_rng(0)) == pytest.approx(expected, abs=1e-6)
