"""The part of `evaluate` that makes the report of a segmenter: figures, table, picture, page."""

from __future__ import annotations

from typing import Any

from seit_ray.config import Evaluate
from seit_ray.progress import Progress
from seit_ray.storage import Folder
from seit_ray.verbs.command.figures_file import evaluated_what
from seit_ray.verbs.command.places import Rows, folder_of
from seit_ray.verbs.command.report_files import report_files
from seit_ray.verbs.command.robustness import is_robustness
from seit_ray.verbs.command.training import run_on_workers

MOST_BATCH = 16  # images of a forward pass, where nobody says: their logits are a number a class and pixel


def is_segmenter(config: Evaluate) -> bool:
    """Whether the run tells a class a pixel; ValueError for a run that is not finished, or tells nothing of images."""
    from seit_ray.models.about import CLASSIFIERS, read_about

    return read_about(folder_of(config.run, config.storage), *CLASSIFIERS)["kind"] == "segmenter"


def check_segments(config: Evaluate) -> None:
    """ValueError for keys that a segmenter does not heed."""
    if is_robustness(config) or config.mirror or config.classes != "all":
        key = next((k for k in ("corruptions", "occlusion", "shuffle", "mirror") if getattr(config, k)), "classes")
        raise ValueError(f"{key} with {config.run}, a segmenter; expected a classifier; leave it out")
    if config.images and not config.source.settings().has_maps:
        raise ValueError(
            f"images {config.images} without source.masks for {config.run}, a segmenter; expected the folder of their "
            "label maps; set source.masks, or source.mask_column of tables and tars, and source.class_names"
        )


def evaluate_report(config: Evaluate, arguments: dict[str, Any], progress: Progress) -> Rows:
    """Evaluate a segmenter; write page, picture and table, the figures last; returns the table to print."""
    from seit_ray.report.segmentation import segment_csv, segment_page, segment_rows, segment_sheet
    from seit_ray.runs.evaluate_segments import evaluate_segments
    from seit_ray.verbs.command.record import record_of

    run: Folder = arguments["run"]
    arguments = {name: value for name, value in arguments.items() if name != "classes"}
    if "batch_size" not in config.model_fields_set:
        arguments["batch_size"] = MOST_BATCH
    with report_files("segments", config, progress) as report:
        found = run_on_workers(config, evaluate_segments, arguments, "evaluate", progress)
        sheet = segment_sheet(pictures) if (pictures := found.pop("pictures")) else None
        figures = {**evaluated_what(config), **found}
        title = f"Segmentation by {config.run.rstrip('/').rpartition('/')[2]}"
        page = segment_page(title, figures, sheet, record_of("evaluate", config))
        report.write(figures, html=page.html().encode(), png=sheet, csv=segment_csv(figures).encode())
    counts = f"{figures['listed']} listed = {figures['samples']} evaluated"
    if left := figures["listed"] - figures["samples"] - len(figures["rejected"]):
        counts += f" + {left} with nothing but void"
    return [
        ("run", run.uri),
        (f"{config.split} images", f"{counts} + {len(figures['rejected'])} rejected"),
        *segment_rows(figures),
        ("report", report.uri("html")),
        ("figures", report.uri("json")),
    ]
