"""What a job of predictions is, and what stands of it in its output when it is begun, or taken up.

Imports no torch but where a model is loaded: a dry run asks here too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seit_ray.evaluation.image_run import ImageRun, read_image_run
from seit_ray.evaluation.prediction_output import PredictOutput, check_map_output
from seit_ray.evaluation.predictions import MAX_DEFAULT_CLASSES
from seit_ray.images.sources.identity import differing, identity
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.about import CLASSIFIERS, read_about, weights_mark
from seit_ray.storage import Folder
from seit_ray.storage.patience import PATIENCE_S

if TYPE_CHECKING:
    from seit_ray.evaluation.image_classifier import ImageClassifier
    from seit_ray.evaluation.image_segmenter import ImageSegmenter


@dataclass(frozen=True)
class PredictSettings:
    """What is predicted and how; fields as in `config.Predict`."""

    split: str | None = None
    weights: str = "model"
    top_k: int = 0
    probabilities: bool | None = None
    overwrite: bool = False
    rows_per_part: int | None = None
    patience_s: float = PATIENCE_S
    batch_size: int = 256
    max_image_pixels: int = 178_956_970
    max_image_mib: int = 64
    num_actors: int | None = None
    gpus_per_actor: float | None = None
    memory_mib: int | None = None


@dataclass(frozen=True)
class PredictJob:
    """One job: which images, by which run, to where."""

    images: Folder
    source_settings: SourceSettings
    run: Folder
    tokenizer: Folder | None
    output: PredictOutput
    settings: PredictSettings

    @property
    def asks(self) -> ImageRun:
        """What the run asks of images; ValueError for a run that cannot be taken."""
        return read_image_run(self.run, tokenizer=self.tokenizer, weights=self.settings.weights)

    def plan(self) -> dict[str, Any]:
        """Whatever decides the table's content; of a segmenter also the value of void in its maps."""
        asks = self.asks
        given, class_names, is_segmenter = self.settings.probabilities, asks.class_names, asks.kind == "segmenter"
        if is_segmenter:
            given = False
        return {
            **identity(self.images, self.source_settings),
            "run": self.run.uri,
            "model": weights_mark(self.run, self.settings.weights),
            "class_names": class_names,
            "decode": asks.decode,
            **({"void": asks.void} if is_segmenter else {}),
            "probabilities": len(class_names) <= MAX_DEFAULT_CLASSES if given is None else given,
            "top_k": min(self.settings.top_k, len(class_names)),
            **{n: getattr(self.settings, n) for n in ("split", "rows_per_part", "max_image_pixels", "max_image_mib")},
        }


def load_model(job: PredictJob) -> ImageClassifier | ImageSegmenter:
    """The classifier or segmenter of the run; ValueError for an output or keys that a segmenter has not."""
    from seit_ray.evaluation.image_classifier import ImageClassifier
    from seit_ray.evaluation.image_segmenter import ImageSegmenter

    tokenizer, weights = job.tokenizer, job.settings.weights
    if read_about(job.run, *CLASSIFIERS)["kind"] == "classifier":
        return ImageClassifier.load(job.run, tokenizer=tokenizer, weights=weights)
    check_map_output(job.output, job.run, top_k=job.settings.top_k, probabilities=job.settings.probabilities)
    return ImageSegmenter.load(job.run, tokenizer=tokenizer, weights=weights)


def check_output(job: PredictJob) -> None:
    """For a dry run: ValueError where the output holds, or was begun with, what the job would refuse."""
    output = job.output
    output.claim()
    found = output.finished()
    stored = found["plan"] if found is not None else begun(output)
    if stored is not None and not job.settings.overwrite:
        refuse_other_plan(output.uri, stored, job.plan())


def begun(output: PredictOutput) -> dict[str, Any] | None:
    """The plan of what is not finished; None where there is none."""
    return json.loads(output.work.read("plan.json")) if output.work.exists("plan.json") else None


def existing(job: PredictJob, plan: dict[str, Any]) -> dict[str, Any] | None:
    """What a finished job of the same plan left; None when there is work to do; ValueError for another plan.

    What is finished is replaced where `overwrite` asks for it, whatever its plan: images may have come since.
    """
    output = job.output
    finished = output.finished()
    if finished is not None:
        if not job.settings.overwrite:
            refuse_other_plan(output.uri, finished["plan"], plan)
            output.end_work()  # a kill between marker and clean-up leaves it
            return finished
        output.remove(plan)
        return None
    if (stored := begun(output)) is not None:
        if not (job.settings.overwrite and differing(stored, plan)):
            refuse_other_plan(output.uri, stored, plan)
            return None
        output.end_work()
    output.begin(plan)
    return None


def refuse_other_plan(uri: str, stored: dict[str, Any], plan: dict[str, Any]) -> None:
    """ValueError naming what differs between what was begun or done and what is asked now."""
    differs = differing(stored, plan)
    if differs:
        before, now = (repr(p.get(differs[0]))[:80] for p in (stored, plan))
        raise ValueError(
            f"{uri} was made with other {', '.join(differs)} ({differs[0]} {before}, now {now}); "
            "expected the same images, run and settings; choose another output, or set overwrite=true"
        )
