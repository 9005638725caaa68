"""Filters, zooms and fractals against plain loops."""

import numpy as np
import pytest

from seit_ray.evaluation.corruptions.sampling import blurred, bordered, filtered, padded, plasma, sampled, zoomed


def maps(height=9, width=7, seed=0):
    """Random maps [2,H,W]."""
    return np.random.default_rng(seed).random((2, height, width), np.float32)


def test_borders():
    places = np.arange(-4, 8)
    assert "".join("abcd"[i] for i in bordered(places, 4, "edge")) == "aaaaabcddddd"
    assert "".join("abcd"[i] for i in bordered(places, 4, "mirror")) == "cdcbabcdcbab"
    assert "".join("abcd"[i] for i in bordered(places, 4, "reflect")) == "dcbaabcddcba"
    assert bordered(places, 1, "mirror").tolist() == [0] * 12


@pytest.mark.parametrize("border", ["edge", "mirror", "reflect"])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
def test_a_gaussian_is_its_taps(border, sigma):
    reach = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    wide = padded(maps(), reach, border)
    expected = np.zeros_like(maps())
    for y in range(9):
        for x in range(7):
            window = wide[:, y : y + 2 * reach + 1, x : x + 2 * reach + 1]
            expected[:, y, x] = (window * taps[:, None] * taps).sum(axis=(1, 2))
    assert blurred(maps(), sigma, border) == pytest.approx(expected, abs=1e-5)
    assert blurred(maps(), 0.0) == pytest.approx(maps())


def test_a_filter_is_not_turned_around():
    kernel = np.zeros((3, 3))
    kernel[0, 2] = 1  # what lies above, to the right
    found = filtered(maps(), kernel)
    assert np.array_equal(found[:, 1:, :-1], maps()[:, :-1, 1:])
    assert np.array_equal(found[:, 0, :-1], maps()[:, 1, 1:])  # mirrored at the edge


def test_a_zoom_enlarges_the_middle():
    ramp = np.stack([np.tile(np.arange(9, dtype=np.float32), (9, 1))] * 2)
    assert np.array_equal(zoomed(ramp, 1.0), ramp)
    found = zoomed(ramp, 1.8)  # of 5 columns, 2 to 6, over 9
    assert found == pytest.approx(2 + ramp / 2, abs=1e-5)
    assert zoomed(maps(), 1.07).shape == maps().shape


@pytest.mark.parametrize("border", ["edge", "mirror", "reflect"])
def test_sampling_between_pixels(border):
    rows, columns = np.mgrid[:9, :7].astype(float)
    assert sampled(maps(), rows, columns, border) == pytest.approx(maps(), abs=1e-5)
    half = sampled(maps(), rows, columns + 0.25, border)
    assert half[:, :, :-1] == pytest.approx(0.75 * maps()[:, :, :-1] + 0.25 * maps()[:, :, 1:], abs=1e-5)
    assert sampled(maps(), rows - 3, columns, border) == pytest.approx(padded(maps(), 3, border)[:, :9, 3:-3], abs=1e-5)


@pytest.mark.parametrize("side", [16, 20, 32])
def test_a_fractal_meets_itself(side):
    field = plasma(side, 1.5, np.random.default_rng(3))
    assert field.shape == ((16, 16) if side == 16 else (32, 32))
    assert (field.min(), field.max()) == (0, 1)
    inner, seam = np.abs(np.diff(field, axis=0)).mean(), np.abs(field[0] - field[-1]).mean()
    assert seam < 2 * inner
    rough = np.abs(np.diff(plasma(side, 1.1, np.random.default_rng(3)), axis=0)).mean()
    assert rough > 1.5 * np.abs(np.diff(plasma(side, 3.0, np.random.default_rng(3)), axis=0)).mean()
