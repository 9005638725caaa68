"""Lines, CSV and pictures of continual learning, of figures by hand."""

import csv
import io
import statistics

import pytest

from seit_ray.storage import Folder
from seit_ray.studies.continual_report import (
    bytes_chart,
    continual_lines,
    matrix_text,
    report_continual,
    steps_chart,
    steps_csv,
    terminal_rows,
)
from seit_ray.studies.trials import Outcome

MEMORY = {"arm": "raw", "budget": 1000, "selection": "herding"}


def figures(last, forgetting, exemplars=4):
    return {
        "mean_top1": (0.9 + last) / 2,
        "last_top1": last,
        "forgetting": forgetting,
        "exemplars": exemplars,
        "memory_bytes": 990,
        "test_images": 100,
        "top1_after": [0.9, last],
        "of_steps_after": [[0.9], [0.9 - forgetting, last]],
        "exemplars_after": [6, exemplars],
        "classes_after": [2, 4],
        "order": [3, 1, 0, 2],
    }


OUTCOMES = [
    Outcome("images", {"arm": "images"}, "finished", figures={"classes": 4}),
    Outcome("a", {**MEMORY, "seed": 0}, "finished", figures=figures(0.5, 0.3)),
    Outcome("b", {**MEMORY, "seed": 1}, "finished", figures=figures(0.7, 0.1)),
    Outcome("c", {"arm": "none", "seed": 0}, "finished", figures=figures(0.3, 0.8, 0)),
    Outcome("d", {"arm": "joint", "seed": 0}, "failed", error="no room"),
]


def test_means_and_errors_of_all_metrics():
    raw, none, joint = continual_lines(OUTCOMES)
    assert raw.settings == MEMORY
    assert (raw.figures["mean_top1"], raw.mean, raw.figures["forgetting"]) == pytest.approx((0.75, 0.6, 0.2))
    error = statistics.stdev([0.5, 0.7]) / 2**0.5
    assert raw.figures["mean_top1_error"] == pytest.approx(error / 2)
    assert raw.seeds_error == pytest.approx(error)
    assert raw.test_error() == pytest.approx((0.6 * 0.4 / 100) ** 0.5)
    assert "mean_top1_error" not in none.figures  # of one seed
    assert joint.mean is None
    assert terminal_rows([raw, none, joint]) == [
        (
            "raw, 1,000 bytes, herding",
            "mean 75.0 +- 5.0, last 60.0 +- 10.0, forgetting 20.0 +- 10.0; 4 exemplars, 990 bytes",
        ),
        ("none", "mean 60.0, last 30.0, forgetting 80.0"),
        ("joint", "failed"),
    ]


def test_a_line_a_step_with_the_matrix():
    rows = list(csv.DictReader(io.StringIO(steps_csv(OUTCOMES))))
    assert [(row["arm"], row["step"], row["classes"]) for row in rows] == [
        ("raw", "1", "2"),
        ("raw", "2", "4"),
        ("none", "1", "2"),
        ("none", "2", "4"),
    ]
    assert float(rows[1]["top1"]) == pytest.approx(0.6)
    assert (rows[0]["top1_of_step_1"], rows[0]["top1_of_step_2"]) == ("0.9", "")
    assert float(rows[1]["top1_of_step_1"]) == pytest.approx(0.7)
    assert (rows[1]["exemplars"], rows[1]["seeds"], rows[2]["standard_error_seeds"]) == ("4", "2", "")


def test_the_matrix_has_a_row_a_step():
    assert matrix_text([figures(0.5, 0.3), figures(0.7, 0.1)]).splitlines() == [
        "after  1:   90.0",
        "after  2:   70.0   60.0",
    ]


def test_pictures_show_the_arms_of_a_setting_and_those_without_one():
    other = Outcome("e", {**MEMORY, "selection": "random", "seed": 0}, "finished", figures=figures(0.6, 0.2))
    shown = steps_chart([*OUTCOMES, other], 1000, "herding")
    assert "raw" in shown
    assert "none" in shown
    assert shown.count("<polyline") == 2
    assert "1,000 bytes, herding" in shown
    lines = continual_lines([*OUTCOMES, other])
    assert bytes_chart(lines, "random").count("<circle") >= 1


def test_a_report_is_written(tmp_path):
    folder = Folder(tmp_path)
    lines = report_continual(folder, OUTCOMES, "a study", {"verb": "study_continual"})
    assert len(lines) == 3
    page = folder.read("report.html").decode()
    for text in ("Top-1 of class-incremental learning", "75.0 +- 5.0", "no room", "Accuracies on the classes"):
        assert text in page
    table = list(csv.DictReader(io.StringIO(folder.read("table.csv").decode())))
    assert [row["arm"] for row in table] == ["raw", "none", "joint"]
    assert float(table[0]["forgetting_error"]) == pytest.approx(0.1)
    assert folder.exists("steps.csv")
    assert folder.exists("trials.csv")
