"""A study of transfer as a table a target, a picture, and, where it was asked for, storage-efficient pre-training."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from seit_ray.progress import size_words
from seit_ray.report.page import Page
from seit_ray.report.sweep import heat_map
from seit_ray.storage import Folder
from seit_ray.studies.lines import Line, lines_of, percent, with_error
from seit_ray.studies.methods import DRAWN, METHODS, ON_PIXELS
from seit_ray.studies.study_page import finish_page, write_tables
from seit_ray.studies.trials import Outcome

METRIC = "top1"
KNN, RANKME = "knn_top1", "rankme"
FIGURES = ("test_images", "steps", "rejected", KNN, RANKME)
COLUMNS = {
    "probe_tokens": "probe, tokens",
    "probe_new_tokens": "probe, tokens of its own tokenizer",
    "probe_pixels": "probe, pixels",
    "finetune_tokens": "fine-tuned, tokens",
    "finetune_new_tokens": "fine-tuned, tokens of its own tokenizer",
    "finetune_pixels": "fine-tuned, pixels",
}
NAMES = {KNN: "kNN", RANKME: "RankMe"}
PRETRAINED = "pre-training "
RULES = (
    "Top-1 in per cent on the target's held-out images, mean and standard error over seeds, each of which pre-trains "
    "anew. Rows are pre-trained on set A's tokens (scratch: on nothing; pixels: on as many of A's images as take the "
    "bytes of its tokens). Tokens of the target are those of A's tokenizer, unless it has its own. What a row has not "
    "learnt to read (codes of another tokenizer, pixels) gets a new stem, which a probe leaves as it was drawn. "
    "mtm and dtm read codes by a learnt table, scratch_ccvit, ccvit and what learns on images by rows of the codebook, "
    "the other rows as model says."
)


def report_transfer(folder: Folder, outcomes: Sequence[Outcome], name: str, details: Mapping[str, Any]) -> list[Line]:
    """Write table, trials and page; the lines, in the order of the trials."""
    lines = lines_of(outcomes, METRIC)
    write_tables(folder, lines, outcomes, METRIC, FIGURES)
    page = Page("Transfer", name)
    for target in dict.fromkeys(line.settings["target"] for line in lines):
        own = [line for line in lines if line.settings["target"] == target]
        add_target(page, str(target), own)
    add_efficiency(page, outcomes, lines)
    add_pretraining(page, outcomes)
    finish_page(page, folder, outcomes, details)
    return lines


def add_target(page: Page, target: str, lines: Sequence[Line]) -> None:
    """The table and the picture of a target."""
    rows = list(dict.fromkeys(str(line.settings["row"]) for line in lines))
    columns = list(dict.fromkeys(str(line.settings["column"]) for line in lines))
    found = {(line.settings["row"], line.settings["column"]): line for line in lines}
    shown = [(column, name) for column in columns for name in (METRIC, *((KNN, RANKME) if is_probe(column) else ()))]
    cells = [(row, *(figure_of(found.get((row, column)), name) for column, name in shown)) for row in rows]
    errors = [error for line in lines if (error := line.test_error()) is not None]
    sizes = {f"{line.figures['test_images']:.0f}" for line in lines if "test_images" in line.figures}
    seeds = {len(line.values) for line in lines}
    note = f"{RULES} {' or '.join(sorted(sizes))} test images; seeds: {', '.join(map(str, sorted(seeds)))}."
    if errors:
        note += f" The error of a figure on the test images alone is at most {percent(max(errors))} points."
    heads = [COLUMNS[column] if name == METRIC else f"{NAMES[name]}, {COLUMNS[column]}" for column, name in shown]
    page.add_table(f"Transfer to {target}", ("pre-training", *heads), cells, note)
    points = [
        (line.settings["column"], line.settings["row"], 100 * line.mean) for line in lines if line.mean is not None
    ]
    if points:
        chart = heat_map(points, f"Top-1 on {target}, %", "column", "pre-training")
        page.add_chart("", chart, "The stronger its colour the better.")


def is_probe(column: str) -> bool:
    """Whether a column is one of frozen features."""
    return column.startswith("probe")


def figure_of(line: Line | None, name: str) -> str:
    """A figure of a cell, as a table has it: top-1 in per cent with its error, that of neighbours, RankMe."""
    if line is None:
        return "-"
    if name == METRIC:
        return with_error(line)
    value = line.figures.get(name)
    return "-" if value is None else f"{value:.1f}" if name == RANKME else percent(value)


def add_pretraining(page: Page, outcomes: Sequence[Outcome]) -> None:
    """What each row's training on A was: means over the seeds."""
    made: dict[str, list[Mapping[str, Any]]] = {}
    for o in outcomes:
        what = str(o.settings.get("made", ""))
        if o.figures and what.startswith(PRETRAINED):
            made.setdefault(what.removeprefix(PRETRAINED).partition(",")[0], []).append(o.figures)
    cells = []
    for row, figures in made.items():
        steps, loss, rate = (
            statistics.fmean(f[name] for f in figures) for name in ("steps", "train_loss", "samples_per_s")
        )
        cells.append((row, f"{steps:,.0f}", f"{loss:.3f}", f"{rate:,.0f}"))
    if cells:
        note = "Losses of different objectives do not compare; samples a second are of trials that share the machine."
        page.add_table("Training on A", ("row", "steps", "last loss", "samples/s"), cells, note)


def efficiency_rows(outcomes: Sequence[Outcome], lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """(target, way, bytes of A, images of A, top-1) of storage-efficient pre-training; none unless it was asked for.

    Bytes and images are means over the seeds.
    """
    made: dict[str, list[Mapping[str, Any]]] = {}
    for o in outcomes:
        if o.figures:
            made.setdefault(str(o.settings.get("made", "")).partition(",")[0], []).append(o.figures)
    if f"{PRETRAINED}{ON_PIXELS}" not in made:
        return []
    found: list[tuple[str, ...]] = []
    for line in lines:
        row, column = line.settings["row"], line.settings["column"]
        if not column.startswith("finetune") or column == "finetune_new_tokens":
            continue
        reads = "pixels" if column.endswith("pixels") else "tokens"
        start = made.get(f"{PRETRAINED}{row}")
        if row in DRAWN or start is None:
            way, size, images = f"from scratch on {reads} of the target", "-", "-"
        else:
            on_images = row in METHODS and METHODS[row].on_images
            what = "pixels of A" if row == ON_PIXELS else f"{'images' if on_images else 'tokens'} of A, {row}"
            way = f"{what} -> {reads} of the target"
            stored = [figures["bytes"] for figures in start if "bytes" in figures]  # of images as they are: not counted
            size = size_words(statistics.fmean(stored)) if stored else "-"
            images = f"{statistics.fmean(figures['images'] for figures in start):,.0f}"
        found.append((str(line.settings["target"]), way, size, images, with_error(line)))
    return found


def add_efficiency(page: Page, outcomes: Sequence[Outcome], lines: Sequence[Line]) -> None:
    """The rows of storage-efficient pre-training."""
    rows = efficiency_rows(outcomes, lines)
    if rows:
        page.add_table(
            "Storage-efficient pre-training",
            ("target", "from -> to", "bytes of A", "images of A", "top-1, %"),
            rows,
            "Pixels of A take the bytes of its tokens, labels and the tokenizer counted (means over seeds), and are "
            "trained on for as many steps as supervised on tokens; the other rows as pretrain.loop says. Source: SeiT "
            "(arXiv 2303.11114).",
        )


def cell_words(line: Line) -> str:
    """A cell in words."""
    column = line.settings["column"]
    more = f", kNN {figure_of(line, KNN)}, RankMe {figure_of(line, RANKME)}" if is_probe(column) else ""
    return f"{column} {with_error(line)}{more}"


def terminal_rows(outcomes: Sequence[Outcome], lines: Sequence[Line]) -> list[tuple[str, str]]:
    """A line a row of the table, then storage-efficient pre-training."""
    rows: list[tuple[str, str]] = []
    for target, row in dict.fromkeys((line.settings["target"], line.settings["row"]) for line in lines):
        own = [line for line in lines if (line.settings["target"], line.settings["row"]) == (target, row)]
        rows.append((f"{target}, {row}", "; ".join(map(cell_words, own))))
    efficient = efficiency_rows(outcomes, lines)
    return [*rows, *((f"{target}: {way}", f"{top1} % ({size} of A)") for target, way, size, _, top1 in efficient)]
