"""A robustness table as rows for the terminal, as CSV, as a picture and as a page; figures: `evaluation.robustness`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from seit_ray.report.curves import line_chart
from seit_ray.report.page import Page
from seit_ray.report.shares import share, with_error

Figures = Mapping[str, Any]
DIFFERENCES = (
    "Strengths are the published ones. Images are corrupted in memory, not stored as JPEG in between, and values are "
    "rounded. Frost is drawn, for the photographs of the release may not be passed on; the edge of water in spatter is "
    "the edge of the drops, not Canny's. Compare figures that are all of this program."
)
COLUMNS = ("corruption", "group", "severity", "top1", "standard_error", "top5", "loss", "relative", "ce")


def robustness_rows(figures: Figures) -> list[tuple[str, str]]:
    """(name, value) of clean, each corruption with its severities, the mean, and mCE."""
    rows = [("clean top-1 / top-5", f"{top1_words(figures['clean'])} / {figures['clean']['top5']:.2%}")]
    for name, found in figures["corruptions"].items():
        each = ", ".join(f"{severity}: {case['top1']:.2%}" for severity, case in found["severities"].items())
        rows.append((name, f"{top1_words(found)}; {each}"))
    if "mean" in figures:
        mean = figures["mean"]
        rows.append(("mean over all", f"{top1_words(mean)}, {share(mean['relative'])} of clean"))
    if "baseline" in figures:
        baseline = figures["baseline"]
        extra = share(baseline["relative_mce"])
        rows.append(("mCE / relative mCE", f"{baseline['mce']:.2%} / {extra} of {baseline['uri']}"))
    return rows


def top1_words(found: Mapping[str, Any]) -> str:
    """Top-1 and its standard error."""
    return with_error(found["top1"], found["standard_error"])


def robustness_csv(figures: Figures) -> str:
    """A line for clean, each severity, the mean of each corruption and the mean over all; shares from 0 to 1."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerow({"corruption": "clean", **figures["clean"]})
    errors = figures.get("baseline", {}).get("corruptions", {})
    for name, found in figures["corruptions"].items():
        of_it = {"corruption": name, "group": found["group"]}
        for severity, case in found["severities"].items():
            writer.writerow({**of_it, "severity": severity, **case})
        writer.writerow({**found, **of_it, "severity": "mean", **errors.get(name, {})})
    if "mean" in figures:
        mce = {"ce": figures["baseline"]["mce"]} if "baseline" in figures else {}
        writer.writerow({"corruption": "mean", "severity": "mean", **figures["mean"], **mce})
    return file.getvalue()


def severity_chart(figures: Figures, group: str | None = None) -> str:
    """SVG of top-1 against severity, 0 for clean: the means of the groups, or the corruptions of one."""
    lines: dict[str, list[tuple[float, float]]] = {}
    found = figures["corruptions"]
    of_units = {of_it["group"] for of_it in found.values()} == {"units"}
    for name, of_it in found.items():
        if group in (None, of_it["group"]):
            points = [(float(severity), case["top1"]) for severity, case in of_it["severities"].items()]
            lines.setdefault(name if group or of_units else of_it["group"], []).extend(points)
    if group is None and len(lines) > 1 and not of_units:
        lines["mean"] = [point for points in lines.values() for point in points]
    clean = (0.0, figures["clean"]["top1"])
    series = {name: means_of([clean, *points]) for name, points in lines.items()}
    label = "share of units" if of_units else "severity"
    return line_chart(series, f"Accuracy against {label}" if group is None else group, label, "top-1")


def means_of(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """(xs ascending, mean of the ys of each)."""
    xs = sorted({x for x, _ in points})
    columns = [[y for other, y in points if other == x] for x in xs]
    return xs, [sum(ys) / len(ys) for ys in columns]


def robustness_page(title: str, figures: Figures, details: Mapping[str, Any]) -> Page:
    """The report: table, pictures, settings."""
    page = Page(title, f"{figures['samples']} images; standard errors are those over images")
    severities = list(dict.fromkeys(s for found in figures["corruptions"].values() for s in found["severities"]))
    errors = figures.get("baseline", {}).get("corruptions", {})
    header = ["corruption", *severities, "mean", "s. e.", "of clean", *(["CE"] if errors else [])]
    blank = ["-"] * len(severities)
    rows = [["clean", *blank, *ending(figures["clean"] | {"relative": 1.0})]]
    for name, found in figures["corruptions"].items():
        each = [percent(found["severities"].get(severity, {}).get("top1")) for severity in severities]
        rows.append([name, *each, *ending(found)])
    if "mean" in figures:
        rows.append(["mean over all", *blank, *ending(figures["mean"])])
    if errors:
        own = [percent(errors.get(row[0], {}).get("ce")) for row in rows]
        own[-1] = percent(figures["baseline"]["mce"])
        rows = [[*row, ce] for row, ce in zip(rows, own, strict=True)]
    note = f"CE: errors as a share of those of {figures['baseline']['uri']}; the last is mCE." if errors else None
    page.add_table("Top-1, %", header, rows, note)
    groups = list(dict.fromkeys(found["group"] for found in figures["corruptions"].values()))
    what = "Units removed or shuffled" if groups == ["units"] else "Means of the groups"
    page.add_chart("", severity_chart(figures), f"{what}; 0 is clean.")
    for group in groups if groups != ["units"] else []:
        page.add_chart("", severity_chart(figures, group), f"The corruptions of the group {group}.")
    if "frost" in figures["corruptions"]:
        page.add_text("How these differ from ImageNet-C", DIFFERENCES)
    page.add_details("Settings, versions and git state", json.dumps(details, indent=1))
    return page


def ending(found: Mapping[str, Any]) -> list[str]:
    """Mean, standard error, share of the clean one."""
    error = found["standard_error"]
    return [percent(found["top1"]), "-" if error is None else f"{100 * error:.2f}", percent(found["relative"])]


def percent(value: float | None) -> str:
    """A share for a table of percentages, - where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"
