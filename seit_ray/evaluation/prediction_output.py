"""Where predictions go: a folder of Parquet parts with a marker, or one table that is joined from them.

    FOLDER/<split>/part-00000.parquet, rejected-00000.parquet   of each part of the images; a marker, predictions.json
    NAME.parquet or NAME.csv, NAME-rejected..., NAME....json    of all of them, which have to fit into memory

What is kept until then: `_work` in the folder, `_NAME.work` beside the table.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from seit_ray.evaluation.prediction_folder import PartsFolder
from seit_ray.evaluation.prediction_parts import PredictFiles
from seit_ray.evaluation.prediction_table import OneTable
from seit_ray.evaluation.predictions import SUFFIXES
from seit_ray.images.manifest import Manifest
from seit_ray.shards.parts import Part
from seit_ray.storage import Folder


class PredictOutput(Protocol):
    """What a job writes to."""

    @property
    def folder(self) -> Folder:
        """Where it lies."""

    @property
    def uri(self) -> str:
        """What the user named."""

    @property
    def rejected_uri(self) -> str:
        """Where the images stand that could not be read."""

    @property
    def lock_name(self) -> str:
        """Of the object in the folder that keeps two jobs from one output."""

    @property
    def record_prefix(self) -> str:
        """What the names of its records in the folder begin with, which may hold other tables."""

    @property
    def work(self) -> Folder:
        """What is kept until it is complete."""

    def files(self, listing: str) -> PredictFiles:
        """Where the parts go; listing: digest of the manifest."""

    def claim(self) -> None:
        """ValueError unless the place is free, or ours."""

    def finished(self) -> dict[str, Any] | None:
        """What is said of the finished output; None where there is none."""

    def check_size(self, num_images: int, plan: dict[str, Any]) -> None:
        """ValueError for more than it holds."""

    def begin(self, plan: dict[str, Any]) -> None:
        """Store the plan: from here on the place is ours."""

    def note(self, manifest: Manifest, splits: Sequence[str]) -> None:
        """Write down what may be written."""

    def commit(
        self,
        plan: dict[str, Any],
        files: PredictFiles,
        parts: list[Part],
        total: int,
        *,
        before_marker: Callable[[], None],
    ) -> dict[str, Any]:
        """Make of finished parts what the user asked for, the marker last, and clean up; what is said of it."""

    def remove(self, plan: dict[str, Any]) -> None:
        """Remove a finished output, and its work, to begin another."""

    def end_work(self) -> None:
        """Remove the work alone."""


def output_at(folder: Folder, parent: Folder, name: str) -> PredictOutput:
    """The output that a name means: one table by its suffix, else a folder, in `parent`; ValueError for others."""
    suffix = posixpath.splitext(name)[1].lower()
    if suffix in SUFFIXES:
        return OneTable(parent, name)
    if suffix:
        raise ValueError(
            f"output {folder.uri}; expected a name that ends in {' or '.join(SUFFIXES)}, or a folder, which has no "
            "ending; correct it"
        )
    return PartsFolder(folder)


def check_map_output(output: PredictOutput, run: Folder, *, top_k: int, probabilities: bool | None) -> None:
    """ValueError for an output that holds no label maps, and keys of classes of images."""
    if not isinstance(output, PartsFolder):
        raise ValueError(
            f"output {output.uri} for {run.uri}, a segmenter; expected a folder, into which its label maps go as PNG; "
            "leave the ending out"
        )
    if top_k or probabilities:
        raise ValueError(
            f"top_k or probabilities for {run.uri}, a segmenter; expected them with a classifier; leave them out"
        )
