"""Figures of a segmentation as rows, as CSV, as a picture and as a page; figures: `evaluation.segmentation`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from seit_ray.report.label_maps import paint_maps
from seit_ray.report.page import Page
from seit_ray.report.pictures import contact_sheet
from seit_ray.report.shares import share, with_error

Figures = Mapping[str, Any]
COLUMNS = ("class", "iou", "accuracy", "pixels", "most_taken_for")
MEANS = {"miou": "mIoU", "mean_accuracy": "mean accuracy", "pixel_accuracy": "pixel accuracy"}


class Picture(Protocol):
    """image uint8 [3,S,S], truth and told uint8 [S,S] of one image."""

    @property
    def image(self) -> np.ndarray: ...
    @property
    def truth(self) -> np.ndarray: ...
    @property
    def told(self) -> np.ndarray: ...


def segment_rows(figures: Figures) -> list[tuple[str, str]]:
    """(name, value) of the means, and the classes that are told best and worst."""
    rows = [(title, with_error(figures[name], figures[f"{name}_standard_error"])) for name, title in MEANS.items()]
    known = {name: one["iou"] for name, one in figures["classes"].items() if one["iou"] is not None}
    ordered = sorted(known, key=known.__getitem__)
    ends = [*ordered[:1], *ordered[1:][-1:]]
    return [*rows, ("weakest, best class", ", ".join(f"{name} {known[name]:.1%}" for name in ends))]


def segment_csv(figures: Figures) -> str:
    """A line a class, shares from 0 to 1, and the means last."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for name, one in figures["classes"].items():
        writer.writerow({"class": name, **{key: value for key, value in one.items() if value is not None}})
    pixels = sum(one["pixels"] for one in figures["classes"].values())
    writer.writerow({"class": "mean", "iou": figures["miou"], "accuracy": figures["mean_accuracy"], "pixels": pixels})
    return file.getvalue()


def segment_sheet(pictures: Sequence[Picture]) -> bytes:
    """PNG: images, truths and what was told, one below the other; void is dark grey."""
    maps = [paint_maps(np.stack([getattr(one, name) for one in pictures])) for name in ("truth", "told")]
    return contact_sheet([np.stack([one.image for one in pictures]), *maps], ["image", "truth", "prediction"], scale=1)


def segment_page(title: str, figures: Figures, sheet: bytes | None, details: Mapping[str, Any]) -> Page:
    """The report: means, pictures, classes, settings."""
    page = Page(title, f"{figures['samples']} images at the size of their label maps; standard errors are over images")
    page.add_table("Means", ["", "value"], [[name, value] for name, value in segment_rows(figures)])
    if sheet is not None:
        page.add_picture("", sheet, "Image as it was stored, truth, prediction; void is dark grey.")
    rows = [
        [name, share(one["iou"]), share(one["accuracy"]), str(one["pixels"]), one["most_taken_for"] or "-"]
        for name, one in figures["classes"].items()
    ]
    page.add_table("Classes", ["class", "IoU", "accuracy", "pixels", "most taken for"], rows)
    page.add_details("Settings, versions and git state", json.dumps(details, indent=1))
    return page
