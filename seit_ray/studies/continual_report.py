"""What a study of continual learning leaves: its lines for the terminal and for CSV, its pictures, its page."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from seit_ray.report.curves import line_chart
from seit_ray.report.page import Page
from seit_ray.storage import Folder
from seit_ray.studies.lines import Line, lines_of, percent, with_error
from seit_ray.studies.study import SEED
from seit_ray.studies.study_page import finish_page, write_tables
from seit_ray.studies.trials import Outcome

STEPS = "steps.csv"
LAST, OTHERS = "last_top1", ("mean_top1", "forgetting")  # of the table, whose test error is that of the last step
FIGURES = (
    *("mean_top1", "mean_top1_error", "forgetting", "forgetting_error"),
    *("exemplars", "memory_bytes", "test_images"),
)
EXPLAINED = (
    "Classes come step by step; accuracy is measured on the test images of all classes so far. Mean: over the steps. "
    "Forgetting: how far the accuracy on a step's classes has fallen at the end from its best before, mean over steps. "
    "All arms but joint train the same transformer for the same number of steps; those of tokens see only tokens. "
    "Bytes are those of the encoded exemplars, their labels and, for tokens, the codebook. joint begins every step "
    "anew with all images of the classes so far: the bound. +- is the standard error over seeds, each of which has an "
    "order of classes of its own; SE test is that of a share counted on so many test images."
)


def continual_lines(outcomes: Sequence[Outcome]) -> list[Line]:
    """A line a setting, of the last accuracy; the standard errors of the other metrics are figures of it."""
    each = [lines_of(outcomes, metric) for metric in OTHERS]
    lines = []
    for line, *others in zip(lines_of(outcomes, LAST), *each, strict=True):
        pairs = zip(OTHERS, others, strict=True)
        errors = {f"{name}_error": other.seeds_error for name, other in pairs if other.seeds_error is not None}
        lines.append(replace(line, figures={**line.figures, **errors}))
    return lines


def named(line: Line) -> str:
    """A line's arm, and its setting."""
    settings = line.settings
    more = [f"{settings['budget']:,} bytes"] if "budget" in settings else []
    return ", ".join([settings["arm"], *more, *([settings["selection"]] if "selection" in settings else [])])


def cell(line: Line, metric: str) -> str:
    """A metric that is a figure of a line, in percent with its standard error."""
    error = line.figures.get(f"{metric}_error")
    return percent(line.figures.get(metric)) + (f" +- {percent(error)}" if error is not None else "")


def terminal_rows(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """A line of the table each."""
    rows = []
    for line in lines:
        if line.mean is None:
            rows.append((named(line), "failed"))
            continue
        text = f"mean {cell(line, 'mean_top1')}, last {with_error(line)}, forgetting {cell(line, 'forgetting')}"
        if "budget" in line.settings:
            text += f"; {line.figures['exemplars']:,.0f} exemplars, {line.figures['memory_bytes']:,.0f} bytes"
        rows.append((named(line), text))
    return rows


def after_steps(outcomes: Sequence[Outcome]) -> list[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
    """(settings without the seed, figures of each seed that finished) of every setting, in order."""
    groups: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for outcome in outcomes:
        if SEED in outcome.settings and outcome.status == "finished" and outcome.figures:
            settings = {key: value for key, value in outcome.settings.items() if key != SEED}
            groups.setdefault(json.dumps(settings), (settings, []))[1].append(outcome.figures)
    return list(groups.values())


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Over seeds."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), error


def steps_csv(outcomes: Sequence[Outcome]) -> str:
    """A line for each setting and step: accuracy over all classes so far, then on those of each step (the matrix)."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    groups = after_steps(outcomes)
    most = max((len(figures[0]["top1_after"]) for _, figures in groups), default=0)
    head = ["arm", "budget", "selection", "step", "classes", "exemplars", "top1", "standard_error_seeds", "seeds"]
    writer.writerow([*head, *(f"top1_of_step_{i + 1}" for i in range(most))])
    for settings, figures in groups:
        for step, classes in enumerate(figures[0]["classes_after"]):
            top1, error = mean_and_error([f["top1_after"][step] for f in figures])
            held = statistics.fmean(f["exemplars_after"][step] for f in figures)
            of_steps = [statistics.fmean(f["of_steps_after"][step][i] for f in figures) for i in range(step + 1)]
            own = [settings.get(key, "") for key in ("arm", "budget", "selection")]
            numbers = [f"{top1:.6g}", "" if error is None else f"{error:.6g}", len(figures)]
            matrix = [f"{value:.6g}" for value in of_steps] + [""] * (most - step - 1)
            writer.writerow([*own, step + 1, classes, f"{held:.6g}", *numbers, *matrix])
    return file.getvalue()


def steps_chart(outcomes: Sequence[Outcome], budget: int, selection: str) -> str:
    """SVG of accuracy against classes seen: the arms of one setting, beside those that have none."""
    series, errors = {}, {}
    for settings, figures in after_steps(outcomes):
        if (settings.get("budget", budget), settings.get("selection", selection)) != (budget, selection):
            continue
        columns = zip(*(f["top1_after"] for f in figures), strict=True)
        points = [mean_and_error(column) for column in columns]
        series[settings["arm"]] = (figures[0]["classes_after"], [mean for mean, _ in points])
        errors[settings["arm"]] = [error for _, error in points]
    title = f"Accuracy after each step, {budget:,} bytes, {selection}"
    return line_chart(series, title, "classes seen", "top-1 over all of them", errors=errors)


def bytes_chart(lines: Sequence[Line], selection: str) -> str:
    """SVG of mean accuracy against the bytes of the memory."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    errors: dict[str, list[float | None]] = {}
    for line in lines:
        if line.settings.get("selection") == selection and "mean_top1" in line.figures:
            xs, ys = series.setdefault(line.settings["arm"], ([], []))
            xs.append(line.settings["budget"])
            ys.append(line.figures["mean_top1"])
            errors.setdefault(line.settings["arm"], []).append(line.figures.get("mean_top1_error"))
    title = f"Mean accuracy against bytes, {selection}"
    return line_chart(series, title, "bytes of the memory", "mean top-1", log_x=True, errors=errors)


def report_continual(folder: Folder, outcomes: Sequence[Outcome], name: str, details: Mapping[str, Any]) -> list[Line]:
    """Write tables and page; the lines of the table."""
    lines = continual_lines(outcomes)
    write_tables(folder, lines, outcomes, LAST, FIGURES)
    folder.write(STEPS, steps_csv(outcomes).encode())
    page = Page("Continual learning", name)
    header = (
        "arm",
        "budget",
        "selection",
        "mean, %",
        "last, %",
        "SE test",
        "forgetting, %",
        "exemplars",
        "bytes",
        "seeds",
    )
    page.add_table("Top-1 of class-incremental learning", header, [page_row(line) for line in lines], EXPLAINED)
    budgets = dict.fromkeys(line.settings["budget"] for line in lines if "budget" in line.settings)
    selections = dict.fromkeys(line.settings["selection"] for line in lines if "selection" in line.settings)
    for budget in budgets or {0: None}:
        for selection in selections or {"-": None}:
            page.add_chart("", steps_chart(outcomes, budget, selection), "Means over seeds with standard errors.")
    for selection in selections if len(budgets) > 1 else ():
        page.add_chart("", bytes_chart(lines, selection), "Means over seeds with standard errors.")
    for settings, figures in after_steps(outcomes):
        words = ", ".join(map(str, settings.values()))
        page.add_details(f"Accuracies on the classes of each step: {words}", matrix_text(figures))
    finish_page(page, folder, outcomes, details)
    return lines


def page_row(line: Line) -> tuple[str, ...]:
    """A row of the page's table."""
    settings, figures = line.settings, line.figures
    has_memory = "budget" in settings
    budget = f"{settings['budget']:,}" if has_memory else "-"
    names = ("exemplars", "memory_bytes")
    held = [f"{figures[name]:,.0f}" if has_memory and name in figures else "-" for name in names]
    return (
        settings["arm"],
        budget,
        settings.get("selection", "-"),
        cell(line, "mean_top1"),
        with_error(line),
        percent(line.test_error()),
        cell(line, "forgetting"),
        *held,
        str(len(line.values)),
    )


def matrix_text(figures: Sequence[Mapping[str, Any]]) -> str:
    """Rows: after a step; columns: on the classes of each step so far; means over seeds, in percent."""
    rows = []
    for step in range(len(figures[0]["of_steps_after"])):
        means = [statistics.fmean(f["of_steps_after"][step][i] for f in figures) for i in range(step + 1)]
        rows.append(f"after {step + 1:2}: " + " ".join(f"{100 * mean:6.1f}" for mean in means))
    return "\n".join(rows)
