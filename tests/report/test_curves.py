"""Line charts: well-formed SVG with the right geometry, whatever the numbers."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

from seit_ray.report.curves import COLOURS, MAX_POINTS, WIDTH, _ticks, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def chart(series, title="t", x_label="x", y_label="y"):
    return ElementTree.fromstring(line_chart(series, title, x_label, y_label))


def lines(root):
    """The points [(x, y)] of every polyline."""
    found = root.findall(f".//{SVG}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.get("points").split()] for line in found]


def texts(root):
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_points_lie_to_scale_and_in_the_frame():
    (line,) = lines(chart({"loss": ([0, 1, 2, 4], [4.0, 2.0, 1.0, 0.0])}))
    xs, ys = zip(*line, strict=True)
    assert xs[1] - xs[0] == pytest.approx((xs[3] - xs[0]) / 4, abs=0.2)
    assert ys[1] - ys[0] == pytest.approx((ys[3] - ys[0]) / 2, abs=0.2)
    assert ys == tuple(sorted(ys))  # SVG counts downwards
    assert 0 < xs[0] < xs[3] < WIDTH
    height = float(chart({"loss": ([0], [0])}).get("height"))
    assert 0 < ys[0] < ys[3] < height


def test_title_labels_ticks_and_legend_are_written():
    written = texts(chart({"a": ([0, 10], [0, 1]), "b": ([0, 10], [1, 0])}, "Loss", "epoch", "nats"))
    assert {"Loss", "epoch", "nats", "a", "b", "0", "2", "10", "0.0", "0.2", "1.0"} <= set(written)


def test_tensors_and_arrays_are_series_too():
    (line,) = lines(chart({"t": (np.arange(3), torch.tensor([1.0, 2.0, 3.0]))}))
    assert len(line) == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
def test_values_that_are_not_finite_leave_a_gap(bad):
    root = chart({"loss": ([0, 1, 2, 3, 4], [1, 2, bad, 3, 4])})
    assert [len(line) for line in lines(root)] == [2, 2]
    assert "nan" not in ElementTree.tostring(root, "unicode")


def test_a_lone_point_is_a_dot():
    root = chart({"one": ([3], [0.5]), "gap": ([0, 1, 2], [math.nan, 1, math.nan])})
    assert len(root.findall(f".//{SVG}circle")) == 2
    assert lines(root) == []


def test_nothing_to_draw_is_said():
    assert "no data" in texts(chart({}))
    assert {"no data", "lost (no data)"} <= set(texts(chart({"lost": ([0, 1], [math.nan, math.nan])})))
    written = texts(chart({"lost": ([], []), "kept": ([0, 1], [0, 1])}))
    assert "lost (no data)" in written
    assert "no data" not in written


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-9, 1e-200, 2e9, 1e250, 1 + 1e-13])
def test_constant_values_are_a_level_line_with_an_axis(value):
    root = chart({"flat": ([0, 1, 2], [value, value, value])})
    (line,) = lines(root)
    assert len({y for _, y in line}) == 1
    assert len(texts(root)) >= 8


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (-1, 1), (0.57, 2.31), (0, 3e-5), (5, 1e7), (1e12, 1e12 + 7), (-1e250, 1e250), (0, 15)],
)
def test_ticks_are_few_different_and_inside(low, high):
    ticks = _ticks(low, high, 5)
    values, labels = zip(*ticks, strict=True)
    assert 2 <= len(ticks) <= 11
    assert len(set(labels)) == len(labels)
    slack = 1e-6 * (high - low)
    assert all(low - slack <= value <= high + slack for value in values)
    assert all(float(label.replace(",", "")) == pytest.approx(v, rel=1e-2, abs=slack) for v, label in ticks)


def test_long_series_are_thinned_but_keep_their_ends_and_spikes():
    ys = np.zeros(100_000)
    ys[54_321], ys[77_777] = 9.0, -9.0
    (line,) = lines(chart({"long": (np.arange(100_000), ys)}))
    (short,) = lines(chart({"short": ([0, 54_321, 77_777, 99_999], [0, 9, -9, 0])}))
    assert len(line) <= MAX_POINTS + 4
    assert {line[0], line[-1], min(line, key=lambda p: p[1]), max(line, key=lambda p: p[1])} == set(short)


def test_names_are_escaped():
    root = chart({"<b>&\"'": ([0, 1], [0, 1])}, title='a < b & "c"')
    assert "<b>&\"'" in texts(root)
    assert root.get("aria-label") == 'a < b & "c"'


def test_many_series_differ_and_the_legend_wraps_within_the_width():
    root = chart({f"a rather long name, number {i}": ([0, 1], [0, i]) for i in range(15)})
    strokes = [(line.get("stroke"), line.get("stroke-dasharray")) for line in root.findall(f".//{SVG}polyline")]
    assert len(set(strokes)) == 15
    named = [text for text in root.iter(f"{SVG}text") if (text.text or "").startswith("a rather")]
    assert max(float(text.get("x")) for text in named) < WIDTH - 150
    assert len({text.get("y") for text in named}) > 3
    assert max(float(text.get("y")) for text in named) < min(y for line in lines(root) for _, y in line)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="series 'loss' with 2 x and 1 y values"):
        line_chart({"loss": ([0, 1], [1])}, "t", "x", "y")


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stand_out_on_light_and_dark(colour):
    for background in ("#ffffff", "#17191d"):
        low, high = sorted((luminance(colour), luminance(background)))
        assert (high + 0.05) / (low + 0.05) >= 3.0  # WCAG 2.1 for graphics


def test_a_log_axis_puts_powers_of_ten_at_equal_distances():
    svg = line_chart({"a": ([10, 1000, 100_000], [1, 2, 3])}, "t", "bytes", "y", log_x=True)
    points = [float(p.partition(",")[0]) for p in re.search(r'points="([^"]*)"', svg)[1].split()]
    assert points[1] - points[0] == pytest.approx(points[2] - points[1], abs=0.2)
    assert all(f">{text}<" in svg for text in ("10", "100", "1,000", "100,000"))
    narrow = line_chart({"a": ([100, 900], [1, 2])}, "t", "bytes", "y", log_x=True)
    assert all(f">{text}<" in narrow for text in ("100", "200", "500"))


def test_a_log_axis_refuses_what_has_no_logarithm():
    with pytest.raises(ValueError, match="series 'a' with x 0 on a log axis; expected more than 0"):
        line_chart({"a": ([0.0, 1.0], [1, 2])}, "t", "x", "y", log_x=True)


def test_errors_are_bars_around_marked_points():
    plain = line_chart({"a": ([1, 2], [1, 2])}, "t", "x", "y")
    svg = line_chart({"a": ([1, 2], [1, 2])}, "t", "x", "y", errors={"a": [0.5, None]})
    assert svg.count("<circle") == 2
    assert plain.count("<circle") == 0
    bars = re.findall(r'd="M([\d.]+) ([\d.]+)V([\d.]+)M', svg)
    assert len(bars) == 1  # the second point has none
    lowest, highest = float(bars[0][1]), float(bars[0][2])
    assert lowest > highest  # downwards is more
