"""The matrix of confusions as SVG."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from seit_ray.report.heat import MAX_NAME, RIGHT_COLOUR, confusion_chart

SVG = "{http://www.w3.org/2000/svg}"
COUNTS = np.array([[9, 1, 0], [0, 4, 6], [0, 0, 0]])


def drawn(counts, names, title="What"):
    return ET.fromstring(confusion_chart(counts, names, title))


def test_every_cell_stands_where_its_row_and_column_are():
    chart = drawn(COUNTS, ["a", "b", "c"])
    boxes = [(float(r.get("x")), float(r.get("y"))) for r in chart.iter(f"{SVG}rect")]
    assert len(boxes) == 9
    xs, ys = (sorted({place[i] for place in boxes}) for i in (0, 1))
    assert (len(xs), len(ys)) == (3, 3)
    shown = {
        t.text: (float(t.get("x")), float(t.get("y"))) for t in chart.iter(f"{SVG}text") if (t.text or "").isdigit()
    }
    assert shown.keys() == {"9", "1", "4", "6"}  # zeros are not written
    assert shown["1"][1] == shown["9"][1] < shown["4"][1] == shown["6"][1]
    assert shown["9"][0] < shown["1"][0] == shown["4"][0] < shown["6"][0]
    width, height = float(chart.get("width")), float(chart.get("height"))
    assert all(0 <= x <= width - 38 and 0 <= y <= height - 38 for x, y in boxes)


def test_colour_says_right_or_wrong_and_how_much():
    boxes = list(drawn(COUNTS, ["a", "b", "c"]).iter(f"{SVG}rect"))
    colours = [box.get("fill") for box in boxes]
    assert [i for i, colour in enumerate(colours) if colour == RIGHT_COLOUR] == [0, 4, 8]
    strength = [float(box.get("fill-opacity")) for box in boxes]
    assert strength[0] > strength[4] > strength[1] > strength[2] == strength[8]
    assert strength[5] > strength[1]


def test_names_are_escaped_and_cut():
    svg = confusion_chart(np.eye(2, dtype=int), ["<script>", "x" * 40], 'a "title" <b>')
    assert "<script>" not in svg
    texts = [t.text for t in ET.fromstring(svg).iter(f"{SVG}text")]
    assert "<script>" in texts
    assert max(map(len, texts)) == MAX_NAME
    assert re.search(r'aria-label="a &quot;title&quot; &lt;b&gt;"', svg)


@pytest.mark.parametrize(
    ("counts", "names"), [(np.zeros((2, 3), int), "ab"), (np.zeros((2, 2), int), "abc"), (np.zeros((0, 0), int), "")]
)
def test_other_shapes_are_refused(counts, names):
    with pytest.raises(ValueError, match=r"expected \[C,C\] for C names"):
        confusion_chart(counts, list(names), "t")
