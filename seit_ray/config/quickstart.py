"""Keys of the verbs that run all others in a row, with one config."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seit_ray.config.augment import Augment, Masking
from seit_ray.config.methods import Ccvit, Dtm, PretrainPixels
from seit_ray.config.sections import NonNegativeInt, Section, Share, Source, Tokenize
from seit_ray.config.tokenizers import Centroid
from seit_ray.config.training import (
    Classifier,
    FinetuneLoop,
    FinetuneOptimizer,
    Loop,
    Model,
    Optimizer,
    Probe,
    Workers,
    check_warmup,
)
from seit_ray.config.verbs import OBJECTIVE, Verb


class PretrainPart(Section):
    """The quickstart's pre-training."""

    model: Model = Field(default_factory=Model)
    objective: Literal["mtm", "ccvit", "dtm"] = Field("mtm", description=OBJECTIVE)
    masking: Masking = Field(default_factory=Masking)
    augment: Augment = Field(default_factory=Augment)
    ccvit: Ccvit = Field(default_factory=Ccvit)
    dtm: Dtm = Field(default_factory=Dtm)
    pixels: PretrainPixels = Field(default_factory=PretrainPixels)
    probe: Probe = Field(default_factory=Probe)
    loop: Loop = Field(default_factory=Loop)
    optimizer: Optimizer = Field(default_factory=Optimizer)

    @model_validator(mode="after")
    def _warmed_up(self) -> Self:
        check_warmup(self.loop, self.optimizer)
        return self


class FinetunePart(Section):
    """The quickstart's fine-tunings, from the pre-trained model and from scratch."""

    model: Classifier = Field(default_factory=Classifier)
    label_smoothing: Share = Field(0.1, description="label smoothing of the cross-entropy")
    augment: Augment = Field(default_factory=Augment)
    loop: FinetuneLoop = Field(default_factory=FinetuneLoop)
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)

    @model_validator(mode="after")
    def _warmed_up(self) -> Self:
        check_warmup(self.loop, self.optimizer)
        return self


class Quickstart(Verb):
    """From images to a fine-tuned classifier: every verb in a row, and a report."""

    undecided = Verb.undecided | {"output", "workers"}
    places = frozenset({"images"})

    images: str | None = Field(None, description="your images (folder per class); the bundled sample if left out")
    output: str = Field("runs/quickstart", description="folder for everything that is written")
    source: Source = Field(default_factory=Source)
    centroid: Centroid = Field(default_factory=Centroid)
    tokenize: Tokenize = Field(default_factory=Tokenize)
    pretrain: PretrainPart = Field(default_factory=PretrainPart)
    finetune: FinetunePart = Field(default_factory=FinetunePart)
    workers: Workers = Field(default_factory=Workers)
    seed: NonNegativeInt = Field(0, description="seed of every phase")


class RunAll(Quickstart):
    """Tokenise, pre-train, fine-tune and evaluate with one config; each phase a job of a cluster if asked."""

    undecided = Quickstart.undecided | {"submit", "retries", "installed", "env"}

    images: str = Field(description="folder, table or Parquet of images: a path or bucket")
    output: str = Field(description="folder for everything that is written: a path or bucket")
    submit: bool = Field(False, description="each phase is a job, so that its nodes are released when it ends")
    retries: NonNegativeInt = Field(2, description="with submit: new attempts of a failed phase")
    installed: bool = Field(False, description="with submit: the nodes have all packages, the jobs install none")
    env: list[str] = Field([], description="with submit: names of variables of this shell that the jobs get")
