"""The keys of the verbs that train on tokens or on pixels."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seit_ray.config.augment import Augment, Masking
from seit_ray.config.loop import (
    FinetuneLoop,
    FinetuneOptimizer,
    Loop,
    Optimizer,
    check_best,
    check_deciding_probe,
    check_schedule,
)
from seit_ray.config.methods import Ccvit, Dtm, PretrainPixels
from seit_ray.config.sections import PositiveInt, Rate, RunName, Source
from seit_ray.config.training import Classifier, Model, Pixels, Probe, Segment, Workers
from seit_ray.config.verbs import Verb

OBJECTIVE = "masked tokens; centroids of patches, as code and as pixels; morphed tokens (with dataset: beside mtm)"
OF_LABELS = ("swap_prob", "mixup_alpha", "cutmix_alpha", "adapt_mixup_alpha", "adapt_cutmix_alpha")  # a label an image


class Training(Verb):
    """Keys of both training verbs."""

    undecided = Verb.undecided | {"output", "run", "workers", "replay"}
    places = frozenset({"dataset"})

    dataset: str | None = Field(None, description="folder of the token dataset")
    output: str = Field("runs", description="folder that holds the runs: a path or bucket")
    run: RunName = Field(description="name of the run; the same name continues it")
    workers: Workers = Field(default_factory=Workers)
    loop: Loop = Field(default_factory=Loop)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    replay: PositiveInt | None = Field(None, description="run just this step, which was not finite; writes nothing")

    @property
    def made(self) -> tuple[str, ...]:
        """The run, beside which others lie."""
        return (f"{self.output.rstrip('/')}/{self.run}",)

    @model_validator(mode="after")
    def _warmed_up(self) -> Self:
        check_schedule(self.loop, self.optimizer)
        return self


class Pretrain(Training):
    """Pre-train by masked token modelling (SeiT++), by centroids (CCViT) or by token morphing (DTM)."""

    undecided = Training.undecided | {"probe"}  # of weights; where a probe chooses the best ones, the run itself looks
    places = Training.places | {"images"}

    objective: Literal["mtm", "ccvit", "dtm"] = Field("mtm", description=OBJECTIVE)
    dataset: str | None = Field(None, description="folder of the token dataset; this or images")
    images: str | None = Field(None, description="of ccvit and dtm: images, a folder, table or Parquet")
    source: Source = Field(default_factory=Source)
    pixels: PretrainPixels = Field(default_factory=PretrainPixels)
    model: Model = Field(default_factory=Model)
    masking: Masking = Field(default_factory=Masking)
    augment: Augment = Field(default_factory=Augment)
    ccvit: Ccvit = Field(default_factory=Ccvit)
    dtm: Dtm = Field(default_factory=Dtm)
    probe: Probe = Field(default_factory=Probe)

    @model_validator(mode="after")
    def _probed_where_it_decides(self) -> Self:
        check_best(self.loop, "mtm" if self.objective == "dtm" and not self.images else self.objective, self.probe)
        check_deciding_probe(self.loop, self.probe)
        return self


class Finetune(Training):
    """Train a classifier, or a segmenter, of tokens or of pixels, from a trained run or from scratch."""

    places = Training.places | {"images", "init_from"}

    task: Literal["classify", "segment"] = Field(
        "classify",
        description="a class an image, or a class a pixel, of images with label maps (source.masks, mask_column)",
    )
    dataset: str | None = Field(None, description="folder of the token dataset; this or images")
    images: str | None = Field(None, description="images to train on as pixels: a folder, table or Parquet")
    source: Source = Field(default_factory=Source)
    pixels: Pixels = Field(default_factory=Pixels)
    init_from: str | None = Field(None, description="folder of a finished run; from scratch when left out")
    init_weights: Literal["model", "ema", "best"] = Field(
        "model", description="of init_from: the last weights, their moving average, or the best"
    )
    transfer: bool = Field(
        False, description="init_from may have other tokens, another grid or other classes: what fits is taken over"
    )
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)
    loop: FinetuneLoop = Field(default_factory=FinetuneLoop)
    model: Classifier = Field(default_factory=Classifier)
    label_smoothing: Rate = Field(0.1, description="label smoothing of the cross-entropy of task=classify")
    augment: Augment = Field(default_factory=Augment)
    segment: Segment = Field(default_factory=Segment)

    @model_validator(mode="after")
    def _of_the_task(self) -> Self:
        """ValueError for keys that the other task alone has: they would do nothing."""
        check_best(self.loop, self.task)
        stray = [f"augment.{name}" for name in OF_LABELS if getattr(self.augment, name)]
        for key in ("label_smoothing", "model.pool"):
            part, name = (self.model, "pool") if key == "model.pool" else (self, key)
            if getattr(part, name) != type(part).model_fields[name].default:
                stray.append(key)
        if self.task == "segment" and stray:
            raise ValueError(f"{stray[0]} with task=segment; expected it with labels of images alone; leave it out")
        if self.task == "classify" and self.segment != Segment():
            raise ValueError("keys of segment with task=classify; expected none; set task=segment, or leave them out")
        return self
