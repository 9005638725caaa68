"""What a sweep leaves: the table of its trials, as text, CSV and a page with pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seit_ray.report.curves import line_chart
from seit_ray.report.page import Page
from seit_ray.report.sweep import heat_map, parallel_coordinates, text_of
from seit_ray.studies.trials import Outcome

SHOWN_CURVES = 12  # more cannot be told apart


def ranked(outcomes: list[Outcome], mode: str) -> list[Outcome]:
    """Finished trials, best first, those without a number last; then stopped ones; then failed ones."""
    order = {"finished": 0, "stopped": 1, "failed": 2}
    sign = 1 if mode == "min" else -1

    def place(outcome: Outcome) -> tuple[int, float, str]:
        value = math.nan if outcome.value is None else sign * outcome.value
        return order[outcome.status], math.inf if math.isnan(value) else value, outcome.name

    return sorted(outcomes, key=place)


def line(outcome: Outcome) -> str:
    """A trial on one line."""
    texts = {k: f"[{text_of(v)}]" if isinstance(v, list | tuple) else text_of(v) for k, v in outcome.settings.items()}
    settings = " ".join(f"{key.rpartition('.')[2]}={text}" for key, text in texts.items())
    value = f"{outcome.value:.4f}" if outcome.value is not None else f"failed: {outcome.error}"
    stopped = f" (stopped at epoch {outcome.epoch:.0f})" if outcome.status == "stopped" else ""
    return f"{value}{stopped}; {settings}" + (f"; {outcome.seconds:.0f} s" if outcome.seconds else "")


def trials_csv(outcomes: list[Outcome], metric: str, command_of: Callable[[Outcome], str]) -> str:
    """One line a trial; the last column is the command that trains it again."""
    keys = list(outcomes[0].settings) if outcomes else []
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", "status", metric, "epoch", "seconds", *keys, "error", "command"])
    for o in outcomes:
        numbers = ["" if v is None else v for v in (o.value, o.epoch, o.seconds and round(o.seconds, 1))]
        settings = [json.dumps(v) if isinstance(v, list | tuple) else v for v in map(o.settings.get, keys)]
        writer.writerow([o.name, o.status, *numbers, *settings, o.error or "", command_of(o)])
    return file.getvalue()


def sweep_page(
    title: str,
    outcomes: list[Outcome],
    *,
    metric: str,
    mode: str,
    stages: Sequence[str],
    heat_keys: Sequence[str],
    records_of: Callable[[Outcome], list[dict[str, Any]]],
    details: Mapping[str, Any],
) -> Page:
    """The page: a table, the pictures, the settings. records_of: the metrics that a trial's last run has written."""
    keys = list(outcomes[0].settings)
    done = [outcome for outcome in outcomes if outcome.value is not None]
    finished = [(o.settings, o.value) for o in outcomes if o.value is not None and o.status == "finished"]
    counts = ", ".join(f"{sum(o.status == s for o in outcomes)} {s}" for s in dict.fromkeys(o.status for o in outcomes))
    page = Page(title, f"{counts}; {metric} after {' and '.join(stages)}")
    header = ("trial", metric, "epoch", "seconds", *(key.rpartition(".")[2] for key in keys), "status")
    page.add_table("Trials, best first", header, [cells(o, keys) for o in outcomes])
    low = mode == "min"
    if len(heat_keys) == 2:
        points = [(settings[heat_keys[0]], settings[heat_keys[1]], value) for settings, value in finished]
        text = f"Mean {metric} of the finished trials in a cell; the stronger its colour the better."
        page.add_chart("Two keys", heat_map(points, metric, *heat_keys, best_is_low=low), text)
    page.add_chart(
        "All keys",
        parallel_coordinates(finished, "Trials", metric, best_is_low=low),
        "A line is a finished trial; the stronger its colour the better, the best in a colour of its own.",
    )
    add_curves(page, done, metric, records_of)
    page.add_details("Settings, versions and git state", json.dumps(details, indent=1))
    return page


def cells(outcome: Outcome, keys: list[str]) -> tuple[str, ...]:
    """A row of the page's table."""
    numbers = [
        "-" if value is None else form.format(value)
        for value, form in ((outcome.value, "{:.4f}"), (outcome.epoch, "{:.2f}"), (outcome.seconds, "{:.1f}"))
    ]
    status = outcome.status + (f": {outcome.error}" if outcome.error else "")
    return (outcome.name, *numbers, *(text_of(outcome.settings[key]) for key in keys), status)


def add_curves(
    page: Page, done: list[Outcome], metric: str, records_of: Callable[[Outcome], list[dict[str, Any]]]
) -> None:
    """The metric of the best trials over epochs."""
    curves = {}
    for outcome in done[:SHOWN_CURVES]:
        records = [r for r in records_of(outcome) if metric in r]
        curves[outcome.name] = ([r["epoch"] for r in records], [r[metric] for r in records])
    shown = f"the best {SHOWN_CURVES}" if len(done) > SHOWN_CURVES else "all"
    chart = line_chart(curves, "Learning curves", "epoch", metric)
    page.add_chart("Learning curves", chart, f"{metric} of {shown} of {len(done)} trials.")
