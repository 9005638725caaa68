"""Folders that the settings of token morphing name. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from seit_ray.storage import Folder


@dataclass(frozen=True, kw_only=True)
class MorphSources:
    """A finished run, a second token dataset, and the folder and name of a teacher's weights."""

    run: Folder | None = None
    dataset: Folder | None = None
    weights: Folder | None = None
    weights_file: str = ""
