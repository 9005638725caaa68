"""A storage curve as a table, a picture of accuracy against bytes, and words on where tokens win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from seit_ray.progress import size_words
from seit_ray.report.curves import line_chart
from seit_ray.report.page import Page
from seit_ray.storage import Folder
from seit_ray.studies.lines import Line, lines_of, percent, with_error
from seit_ray.studies.storage_curve import BYTES_OF, FEWER, with_encodings
from seit_ray.studies.study import SEED
from seit_ray.studies.study_page import finish_page, write_tables
from seit_ray.studies.trials import Outcome
from seit_ray.studies.verdicts import error_of, label, verdicts

METRIC = "top1"
FIGURES = ("bytes", "images", "test_images", "steps", "epochs", "label_bytes", "tokenizer_bytes", "rejected")
RULES = (
    "Bytes are what the train split takes: the column of images or tokens and that of labels, as they lie in Parquet, "
    "and the tokenizer's files once. Images are compressed together (zstd), so that small files do not pay for the "
    "headers that all of them repeat. All arms train the same transformer on the same positions, from scratch; arms of "
    "pixels are tested on test images that went through the same codec, arms of tokens on tokens of the same tokenizer."
    " A tokenizer is fitted on train images that are stored as tokens; fewer images, as tokens, keep that of all of "
    "them, whose bytes they pay for, so that their codes know images which they do not store."
)


def report_curve(
    folder: Folder, outcomes: Sequence[Outcome], name: str, details: Mapping[str, Any]
) -> tuple[list[Line], list[str]]:
    """Write table, trials and page; the lines by bytes, and what is said of tokens."""
    known = with_known_bytes(lines_of(outcomes, METRIC), outcomes)
    lines = sorted(with_encodings(known), key=lambda line: line.figures.get("bytes", 0.0))
    write_tables(folder, lines, outcomes, METRIC, FIGURES)
    found = verdicts(lines)
    page = Page("Storage against accuracy", name)
    page.add_text("Where tokens win, and where they do not", "\n\n".join([counted(found), *(v.words for v in found)]))
    header = (
        "arm",
        "setting",
        "equal",
        "bytes",
        "images",
        "top-1, %",
        "SE seeds",
        "SE test",
        "seeds",
        "steps",
        "epochs",
    )
    page.add_table("All arms, by bytes", header, [cells(line) for line in lines], RULES)
    page.add_chart(
        "Accuracy against bytes", chart(lines), "Bars: the larger one of the errors over seeds and of the test."
    )
    finish_page(page, folder, outcomes, details)
    return lines, [verdict.words for verdict in found]


def with_known_bytes(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> list[Line]:
    """The same lines, those that failed with the bytes that they would have had at most, where these are known."""
    made = {str(o.settings.get("arm")): o.figures for o in outcomes if SEED not in o.settings and o.figures}

    def known(line: Line) -> float | None:
        arm, setting = str(line.settings["arm"]), str(line.settings["setting"])
        if arm == FEWER and setting.startswith(BYTES_OF):
            what, _, encoding = setting.removeprefix(BYTES_OF).rpartition(", ")
            return made.get(what, {}).get(f"bytes_{encoding}")
        if arm.startswith(FEWER):
            return float(setting.removesuffix(" bytes").rpartition(" ")[2])
        return next((made[name].get("bytes") for name in (f"{arm} {setting}", arm) if name in made), None)

    found = []
    for line in lines:
        size = known(line) if line.mean is None and "bytes" not in line.figures else None
        found.append(line if size is None else replace(line, figures={**line.figures, "bytes": float(size)}))
    return found


def counted(found: Sequence[Any]) -> str:
    """How often tokens win, lose and draw, in a sentence."""
    names = ("wins", "loses", "draws", "alone", "open")
    counts = {name: sum(verdict.outcome == name for verdict in found) for name in names}
    return (
        f"Of {len(found)} settings of tokens, against the best rival of no more bytes: {counts['wins']} win, "
        f"{counts['loses']} lose, {counts['draws']} cannot be told from it (at 95 %, Student's t), for "
        f"{counts['alone']} no rival is so small, and {counts['open']} are open (a rival failed, or a single seed ran)."
    )


def cells(line: Line) -> tuple[object, ...]:
    """A row of the page's table."""
    figures = line.figures
    numbers = [f"{figures[name]:,.0f}" if name in figures else "-" for name in ("bytes", "images")]
    ran = [f"{figures[name]:,.0f}" if name in figures else "-" for name in ("steps", "epochs")]
    errors = [percent(line.seeds_error), percent(line.test_error())]
    settings = [line.settings[key] for key in ("arm", "setting", "equal")]
    return (*settings, *numbers, percent(line.mean), *errors, len(line.values), *ran)


def chart(lines: Sequence[Line]) -> str:
    """Top-1 against bytes, a line an arm; of fewer images one for each thing that is held equal."""
    series: dict[str, list[Line]] = {}
    for line in lines:
        if line.mean is not None and line.figures.get("bytes"):
            series.setdefault(series_of(line), []).append(line)
    points = {
        name: ([line.figures["bytes"] / 1e3 for line in some], [100 * (line.mean or 0.0) for line in some])
        for name, some in series.items()
    }
    errors = {name: [100 * error_of(line) for line in some] for name, some in series.items()}
    title = "Higher is better, further left is cheaper"
    return line_chart(points, title, "kB of training data", "top-1, %", log_x=True, errors=errors)


def series_of(line: Line) -> str:
    """The line of the picture that it is a point of."""
    arm = str(line.settings["arm"])
    return f"{arm}, equal {line.settings['equal']}" if arm.startswith(FEWER) else arm


def terminal_rows(lines: Sequence[Line], words: Sequence[str]) -> list[tuple[str, str]]:
    """The table for the terminal, then what is said of tokens."""
    rows = []
    for line in lines:
        size = size_words(line.figures["bytes"]) if "bytes" in line.figures else "-"
        why = f": {line.failed[0]}" if line.mean is None and line.failed else ""
        rows.append((label(line), f"{size}, top-1 {with_error(line)}{why} ({len(line.values)} seeds)"))
    return [*rows, *(("tokens", text) for text in words)]
