"""Marks of the weights that a run reads from elsewhere: a name says where they lie, not what they are."""

from __future__ import annotations

import hashlib

from seit_ray.models.about import weights_mark
from seit_ray.models.about_timm import CONFIG, read_timm_config
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.settings import AugmentationSettings
from seit_ray.storage import Folder

__all__ = ["adapt_contents", "file_mark", "morph_contents"]


def file_mark(folder: Folder, *names: str) -> str:
    """What tells files of weights from others: the beginning of the SHA-256 of all their bytes."""
    return hashlib.sha256(b"".join(folder.read(name) for name in names)).hexdigest()[:16]


def adapt_contents(augment: AugmentationSettings, adapt_run: Folder | None) -> dict[str, str]:
    """The mark of TokenAdapt's weights, where the augmentation reads them."""
    if augment.adapt != "tokenadapt" or adapt_run is None:
        return {}
    return {"augment.adapt_run": weights_mark(adapt_run, "model")}


def morph_contents(sources: MorphSources) -> dict[str, str]:
    """The marks of what morphing compares with: a finished run, or a teacher's file."""
    found = {}
    if sources.run is not None:
        found["dtm.target_run"] = weights_mark(sources.run, "model")
    if sources.weights is not None:
        files = [sources.weights_file, *([CONFIG] if read_timm_config(sources.weights) else [])]
        found["dtm.teacher_weights"] = file_mark(sources.weights, *files)
    return found
