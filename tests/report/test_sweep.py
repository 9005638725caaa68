"""Pictures of a sweep: every value at its place, the best the strongest, whatever kind the values are."""

import re
import xml.etree.ElementTree as ET

import pytest

from seit_ray.report.page import Page
from seit_ray.report.sweep import axis_of, heat_map, parallel_coordinates, shares_of, text_of

NAMESPACE = {"s": "http://www.w3.org/2000/svg"}


def elements(svg, kind):
    return ET.fromstring(svg).findall(f".//s:{kind}", NAMESPACE)


def texts(svg):
    return [element.text for element in elements(svg, "text")]


def cells(svg):
    """(row from below, column) -> opacity, of a heat map."""
    boxes = [{k: float(e.get(k)) for k in ("x", "y", "fill-opacity")} for e in elements(svg, "rect")]
    xs, ys = sorted({b["x"] for b in boxes}), sorted({b["y"] for b in boxes}, reverse=True)
    return {(ys.index(b["y"]), xs.index(b["x"])): b["fill-opacity"] for b in boxes}


def lines(svg):
    """Points of each line, and its opacity, in the order in which they are drawn."""
    found = []
    for element in elements(svg, "polyline"):
        points = [tuple(map(float, p.split(","))) for p in element.get("points").split()]
        found.append((points, float(element.get("stroke-opacity")), element.get("stroke")))
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.30000000000000004, "0.3"), ([0.2, 1], "0.2, 1"), (3, "3"), (True, "true"), (None, "none"), ("nano", "nano")],
)
def test_values_as_labels(value, text):
    assert text_of(value) == text


def test_a_heat_map_has_a_cell_for_each_two_values_and_means_in_them():
    points = [(0.3, [0.2, 1], 0.5), (0.3, [0.2, 1], 0.7), (0.6, [0.2, 1], 0.9), (0.6, [0.5, 1], 0.2)]
    svg = heat_map(points, "accuracy", "mask ratio", "crop area")
    found = cells(svg)
    assert sorted(found) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert found[1, 0] == 0  # no point
    assert 0 < found[1, 1] < found[0, 0] < found[0, 1]
    shown = texts(svg)
    for text in ("0.6", "0.9", "0.2", "0.3", "0.2, 1", "0.5, 1", "mask ratio", "crop area", "accuracy"):
        assert text in shown
    low = cells(heat_map(points, "loss", "x", "y", best_is_low=True))
    assert low[1, 1] > low[0, 0] > low[0, 1] > 0


def test_many_numbers_are_put_into_ranges():
    points = [(10 ** (-4 + i / 20), i, float(i)) for i in range(60)]
    svg = heat_map(points, "t", "x", "y")
    assert len(cells(svg)) == 64
    axis = axis_of([x for x, _, _ in points], 12)
    assert axis.log
    assert axis.cell(1e-4) == 0
    assert axis.cell(max(x for x, _, _ in points)) == 7
    filled = {place for place, opacity in cells(svg).items() if opacity}
    assert filled == {(i, i) for i in range(8)}  # y grows with x


@pytest.mark.parametrize("points", [[], [(1, 2, float("nan"))], [(1, 2, float("inf"))]])
def test_a_heat_map_of_nothing(points):
    with pytest.raises(ValueError, match="expected one at least, all finite"):
        heat_map(points, "t", "x", "y")


def test_one_point():
    assert list(cells(heat_map([(1, "a", 0.5)], "t", "x", "y")).values()) == [0.9]
    svg = parallel_coordinates([({"lr": 1}, 0.5)], "t", "v")
    assert len(lines(svg)) == 1


def test_a_line_passes_every_axis_at_its_value_and_the_best_is_on_top():
    rows = [
        ({"a.lr": 0.1, "b.size": "tiny"}, 0.9),
        ({"a.lr": 0.3, "b.size": "nano"}, 0.1),
        ({"a.lr": 0.2, "b.size": "nano"}, 0.5),
    ]
    svg = parallel_coordinates(rows, "trials", "val_top1")
    found = lines(svg)
    assert [len(points) for points, _, _ in found] == [3, 3, 3]
    opacities = [opacity for _, opacity, _ in found]
    assert opacities == sorted(opacities)
    best, worst = found[-1][0], found[0][0]
    assert best[0][1] > found[1][0][0][1] > worst[0][1]  # low values lie low on the page
    assert best[-1][1] < found[1][0][-1][1] < worst[-1][1]
    assert len({colour for _, _, colour in found}) == 2
    assert found[-1][2] != found[0][2] == found[1][2]
    for text in ("lr", "size", "val_top1", "0.1", "0.3", "nano", "tiny", "0.9"):
        assert text in texts(svg)
    turned = lines(parallel_coordinates(rows, "trials", "loss", best_is_low=True))
    assert turned[-1][0] == worst


def test_trials_with_other_keys_make_no_picture():
    with pytest.raises(ValueError, match="trials with other keys; expected"):
        parallel_coordinates([({"a": 1}, 1.0), ({"b": 1}, 2.0)], "t", "v")
    with pytest.raises(ValueError, match="expected one at least"):
        parallel_coordinates([], "t", "v")


def test_shares_of_equal_values_are_all_the_best():
    assert shares_of({"a": 2.0, "b": 2.0}, False) == {"a": 1.0, "b": 1.0}
    assert shares_of({"a": 2.0, "b": 4.0, "c": 3.0}, True) == {"a": 1.0, "b": 0.0, "c": 0.5}


def test_mixed_values_have_places():
    axis = axis_of([None, 0.1, "a"], 5)
    assert [axis.place(v) for v in (0.1, "a", None)] == [0, 0.5, 1]
    assert axis_of([1, 2, 10], 2).place(10) == 1


@pytest.mark.parametrize(
    "draw", [lambda t: heat_map([(t, t, 1.0)], t, t, t), lambda t: parallel_coordinates([({t: t}, 1.0)], t, t)]
)
def test_text_is_escaped_and_fits_a_page(draw):
    svg = draw('<script>"&')
    assert "<script>" not in svg
    ET.fromstring(svg)
    page = Page("t")
    page.add_chart("t", svg, "c")
    assert svg in page.html()
    assert not re.search(r"\b(nan|inf)\b", svg)
