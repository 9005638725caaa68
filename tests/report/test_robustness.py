"""The table as rows, CSV, picture and page."""

import copy
import csv
import io
import xml.etree.ElementTree as ElementTree

import pytest

from seit_ray.report.robustness import (
    means_of,
    robustness_csv,
    robustness_page,
    robustness_rows,
    severity_chart,
)


def case(top1):
    """Figures of a case."""
    return {"top1": top1, "standard_error": 0.01, "top5": 0.9, "loss": 1.5}


def corruption(group, *tops):
    """Figures of a corruption at severities 1, 2, ..."""
    mean = sum(tops) / len(tops)
    cases = {str(i): case(top) for i, top in enumerate(tops, 1)}
    return {"group": group, "top1": mean, "standard_error": 0.02, "relative": mean / 0.8, "severities": cases}


FIGURES = {
    "samples": 500,
    "clean": case(0.8),
    "corruptions": {
        "shot_noise": corruption("noise", 0.6, 0.5),
        "impulse_noise": corruption("noise", 0.4, 0.1),
        "frost": corruption("weather", 0.7, 0.3),
    },
    "mean": {"top1": 0.4333, "standard_error": 0.015, "relative": 0.5417},
}
BASELINE = {
    "uri": "runs/base",
    "mce": 0.9,
    "relative_mce": None,
    "corruptions": {name: {"ce": 0.5 + i / 4, "relative_ce": None} for i, name in enumerate(FIGURES["corruptions"])},
}
UNITS = {
    "samples": 40,
    "clean": case(0.8),
    "corruptions": {
        "occlusion": corruption("units", 0.7) | {"severities": {"0.25": case(0.7), "0.5": case(0.5)}},
        "shuffle": corruption("units", 0.2) | {"severities": {"1.0": case(0.2)}},
    },
}


def test_rows_for_the_terminal():
    rows = dict(robustness_rows({**FIGURES, "baseline": BASELINE}))
    assert rows["clean top-1 / top-5"] == "80.00% +- 1.00% / 90.00%"
    assert rows["impulse_noise"] == "25.00% +- 2.00%; 1: 40.00%, 2: 10.00%"
    assert rows["mean over all"] == "43.33% +- 1.50%, 54.17% of clean"
    assert rows["mCE / relative mCE"] == "90.00% / - of runs/base"
    assert list(robustness_rows({"samples": 1, "clean": case(0.8), "corruptions": {}})) == [
        ("clean top-1 / top-5", "80.00% +- 1.00% / 90.00%")
    ]


def test_csv_has_a_line_for_each_figure():
    lines = list(csv.DictReader(io.StringIO(robustness_csv({**FIGURES, "baseline": BASELINE}))))
    assert [(line["corruption"], line["severity"]) for line in lines] == [
        ("clean", ""),
        *((name, severity) for name in FIGURES["corruptions"] for severity in ("1", "2", "mean")),
        ("mean", "mean"),
    ]
    assert [float(line["top1"]) for line in lines[1:4]] == [0.6, 0.5, 0.55]
    assert [line["ce"] for line in lines if line["severity"] == "mean"] == ["0.5", "0.75", "1.0", "0.9"]
    assert lines[3]["group"] == "noise"


def lines_of(svg):
    """Texts of a picture, and its number of lines."""
    root = ElementTree.fromstring(svg)
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    return texts, len(list(root.iter("{http://www.w3.org/2000/svg}polyline")))


def test_the_picture_has_a_line_a_group():
    texts, number = lines_of(severity_chart(FIGURES))
    assert number == 3
    assert {"noise", "weather", "mean", "severity", "top-1"} <= set(texts)
    texts, number = lines_of(severity_chart(FIGURES, "noise"))
    assert number == 2
    assert {"shot_noise", "impulse_noise"} <= set(texts)
    texts, number = lines_of(severity_chart(UNITS))
    assert number == 2
    assert {"occlusion", "shuffle", "share of units"} <= set(texts)


def test_a_line_of_a_group_is_its_mean():
    assert means_of([(1.0, 0.6), (0.0, 0.8), (1.0, 0.4)]) == ([0.0, 1.0], [0.8, 0.5])


@pytest.mark.parametrize("figures", [FIGURES, {**FIGURES, "baseline": BASELINE}, UNITS])
def test_the_page(figures):
    before = copy.deepcopy(figures)
    html = robustness_page("Robustness of run", figures, {"verb": "evaluate"}).html()
    assert figures == before
    assert all(name in html for name in figures["corruptions"])
    assert html.count("<svg") == (1 if figures is UNITS else 3)
    assert ("Frost is drawn" in html) is ("frost" in figures["corruptions"])
    assert ('<th class="number">CE</th>' in html) is ("baseline" in figures)
    assert (">90.0<" in html) is ("baseline" in figures)
    assert ">70.0<" in html


def test_a_corruption_without_a_severity_has_an_empty_cell():
    html = robustness_page("Robustness", UNITS, {}).html()
    assert '<td class="number">-</td>' in html
