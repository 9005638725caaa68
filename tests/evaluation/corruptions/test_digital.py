"""Contrast, saturation, shifts, pixels and JPEG."""

import colorsys
import io

import numpy as np
import pytest
from PIL import Image

from seit_ray.evaluation.corruptions import digital

RNG = np.random.default_rng(0)


def image(side=16, seed=0):
    """An image of whole levels [3,H,W] with a grey and a black pixel."""
    found = np.random.default_rng(seed).integers(0, 256, (3, side, side)).astype(np.float32) / 255
    found[:, 0, 0], found[:, 0, 1] = 0, 0.4
    return found


def test_contrast_keeps_the_mean_of_each_channel():
    found = digital.contrast(image(), 0.2, RNG)
    assert found.mean(axis=(1, 2)) == pytest.approx(image().mean(axis=(1, 2)), abs=1e-5)
    assert found.std() == pytest.approx(0.2 * image().std(), rel=0.02)


@pytest.mark.parametrize("strength", [(0.3, 0), (2, 0), (20, 0.2)])
def test_saturation_is_that_of_hsv(strength):
    expected = np.empty_like(image())
    for y in range(16):
        for x in range(16):
            hue, saturation, value = colorsys.rgb_to_hsv(*image()[:, y, x].tolist())
            changed = min(1, saturation * strength[0] + strength[1])
            expected[:, y, x] = colorsys.hsv_to_rgb(hue, changed, value)
    assert digital.saturate(image(), strength, RNG) == pytest.approx(expected, abs=1e-5)


def test_an_elastic_shift_of_nothing_is_nothing():
    rng = np.random.default_rng(2)
    assert digital.elastic_transform(image(), (0, 0, 0), rng) == pytest.approx(image(), abs=1e-4)
    assert digital.elastic_transform(image(), (1e-9, 1, 0), rng) == pytest.approx(image(), abs=1e-4)
    affine = digital.elastic_transform(image(), (0, 0, 3), rng)
    assert np.abs(affine - image()).mean() > 0.05
    flat = np.full((3, 16, 16), 0.5, np.float32)
    assert digital.elastic_transform(flat, (8, 1, 3), rng) == pytest.approx(flat, abs=1e-5)


def test_the_affine_map_takes_three_points_where_they_were_drawn():
    # three bright points, at the corners that are moved: they come out at the drawn places
    side = 60
    drawn = np.random.default_rng(4).uniform(-4, 4, (3, 2))
    for number, corner in enumerate(([50, 50], [50, 10], [10, 10])):
        points = np.zeros((3, side, side), np.float32)
        points[:, corner[0], corner[1]] = 1
        found = digital.elastic_transform(points, (0, 0, 4), np.random.default_rng(4))[0]
        centre = (np.stack(np.mgrid[:side, :side]) * found).sum(axis=(1, 2)) / found.sum()
        assert centre == pytest.approx(corner + drawn[number], abs=0.5)


def test_pixelate_means_boxes():
    found = digital.pixelate(image(), 0.5, RNG)
    boxes = image().reshape(3, 8, 2, 8, 2).mean(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)
    assert found == pytest.approx(boxes, abs=1 / 255)


def test_jpeg_is_pillows():
    sink = io.BytesIO()
    Image.fromarray((image() * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(sink, "JPEG", quality=10)
    expected = np.asarray(Image.open(sink)).transpose(2, 0, 1) / 255
    assert digital.jpeg_compression(image(), 10, RNG) == pytest.approx(expected, abs=1e-6)
