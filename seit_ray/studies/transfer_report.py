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
from seit_ray.studies.study_page import finish_page, write_tables
from seit_ray.studies.transfer import ON_PIXELS, SCRATCH
from seit_ray.studies.trials import Outcome

METRIC = "top1"
FIGURES = ("test_images", "steps", "rejected", "knn_top1", "rankme")
COLUMNS = {
    "probe_tokens": "probe, tokens",
    "probe_new_tokens": "probe, tokens of its own tokenizer",
    "probe_pixels": "probe, pixels",
    "finetune_tokens": "fine-tuned, tokens",
    "finetune_new_tokens": "fine-tuned, tokens of its own tokenizer",
    "finetune_pixels": "fine-tuned, pixels",
}
RULES = (
    "Top-1 in per cent on the target's held-out images, mean and standard error over seeds, each of which pre-trains "
    "anew. Rows are pre-trained on set A's tokens (scratch: on nothing; pixels: on as many of A's images as take the "
    "bytes of its tokens). Tokens of the target are those of A's tokenizer, unless it has its own. What a row has not "
    "learnt to read (codes of another tokenizer, pixels) gets a new stem, which a probe leaves as it was drawn. "
    "mtm and dtm read codes by a learnt table, ccvit by rows of the codebook, the other rows as model says."
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
    finish_page(page, folder, outcomes, details)
    return lines


def add_target(page: Page, target: str, lines: Sequence[Line]) -> None:
    """The table and the picture of a target."""
    rows = list(dict.fromkeys(str(line.settings["row"]) for line in lines))
    columns = list(dict.fromkeys(str(line.settings["column"]) for line in lines))
    found = {(line.settings["row"], line.settings["column"]): line for line in lines}
    cells = [
        (row, *(with_error(found[row, column]) if (row, column) in found else "-" for column in columns))
        for row in rows
    ]
    errors = [error for line in lines if (error := line.test_error()) is not None]
    sizes = {f"{line.figures['test_images']:.0f}" for line in lines if "test_images" in line.figures}
    seeds = {len(line.values) for line in lines}
    note = f"{RULES} {' or '.join(sorted(sizes))} test images; seeds: {', '.join(map(str, sorted(seeds)))}."
    if errors:
        note += f" The error of a figure on the test images alone is at most {percent(max(errors))} points."
    page.add_table(f"Transfer to {target}", ("pre-training", *(COLUMNS[c] for c in columns)), cells, note)
    points = [
        (line.settings["column"], line.settings["row"], 100 * line.mean) for line in lines if line.mean is not None
    ]
    if points:
        chart = heat_map(points, f"Top-1 on {target}, %", "column", "pre-training")
        page.add_chart("", chart, "The stronger its colour the better.")


def efficiency_rows(outcomes: Sequence[Outcome], lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """(target, way, bytes of A, images of A, top-1) of storage-efficient pre-training; none unless it was asked for.

    Bytes and images are means over the seeds.
    """
    made: dict[str, list[Mapping[str, Any]]] = {}
    for o in outcomes:
        if o.figures:
            made.setdefault(str(o.settings.get("made", "")).partition(",")[0], []).append(o.figures)
    if f"pre-training {ON_PIXELS}" not in made:
        return []
    found: list[tuple[str, ...]] = []
    for line in lines:
        row, column = line.settings["row"], line.settings["column"]
        if not column.startswith("finetune") or column == "finetune_new_tokens":
            continue
        reads = "pixels" if column.endswith("pixels") else "tokens"
        start = made.get(f"pre-training {row}")
        if row == SCRATCH or start is None:
            way, size, images = f"from scratch on {reads} of the target", "-", "-"
        else:
            what = "pixels of A" if row == ON_PIXELS else f"tokens of A, {row}"
            way = f"{what} -> {reads} of the target"
            size = size_words(statistics.fmean(figures["bytes"] for figures in start))
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


def terminal_rows(outcomes: Sequence[Outcome], lines: Sequence[Line]) -> list[tuple[str, str]]:
    """A line a row of the table, then storage-efficient pre-training."""
    rows: list[tuple[str, str]] = []
    for target, row in dict.fromkeys((line.settings["target"], line.settings["row"]) for line in lines):
        own = [line for line in lines if (line.settings["target"], line.settings["row"]) == (target, row)]
        rows.append((f"{target}, {row}", "; ".join(f"{line.settings['column']} {with_error(line)}" for line in own)))
    efficient = efficiency_rows(outcomes, lines)
    return [*rows, *((f"{target}: {way}", f"{top1} % ({size} of A)") for target, way, size, _, top1 in efficient)]
