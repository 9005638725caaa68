"""Keys of the verbs that run all others in a row, with one config."""

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
    refuse_seed,
)
from seit_ray.config.methods import Ccvit, Dtm, PretrainPixels
from seit_ray.config.sections import NonNegativeInt, Rate, Section, Seed, Source, Tokenize
from seit_ray.config.tokenizers import Centroid
from seit_ray.config.training import Classifier, Model, Probe, Workers
from seit_ray.config.trainings import OBJECTIVE
from seit_ray.config.verbs import Verb


class PretrainPart(Section):
    """The quickstart's pre-training."""

    undecided = frozenset({"probe"})

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
        check_schedule(self.loop, self.optimizer)
        check_best(self.loop, "mtm" if self.objective == "dtm" else self.objective, self.probe)
        check_deciding_probe(self.loop, self.probe)
        return self


class FinetunePart(Section):
    """The quickstart's training of the classifier."""

    model: Classifier = Field(default_factory=Classifier)
    label_smoothing: Rate = Field(0.1, description="label smoothing of the cross-entropy")
    augment: Augment = Field(default_factory=Augment)
    loop: FinetuneLoop = Field(default_factory=FinetuneLoop)
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)

    @model_validator(mode="after")
    def _warmed_up(self) -> Self:
        check_schedule(self.loop, self.optimizer)
        check_best(self.loop, "classify")
        return self


class Quickstart(Verb):
    """From images to a fine-tuned classifier: every verb in a row, and a report."""

    undecided = Verb.undecided | {"output", "workers"}
    places = frozenset({"images"})

    images: str | None = Field(None, description="your images (folder per class); the bundled sample if left out")
    output: str = Field("runs/quickstart", description="folder for everything that is written")
    source: Source = Field(default_factory=Source)
    centroid: Centroid = Field(default_factory=Centroid)
    enlarge: bool = Field(
        True,
        description="bring images smaller than centroid.image_size up to it; false lowers it to what most of them fill "
        "and the stem tiles",
    )
    tokenize: Tokenize = Field(default_factory=Tokenize)
    pre_train: bool = Field(False, description="masked token modelling first, from which the classifier starts")
    pretrain: PretrainPart = Field(default_factory=PretrainPart)
    finetune: FinetunePart = Field(default_factory=FinetunePart)
    workers: Workers = Field(default_factory=Workers)
    seed: Seed = Field(0, description="seed of every phase")

    @property
    def made(self) -> tuple[str, ...]:
        """What the phases make; the listing that they share lies beside these, in the output."""
        return tuple(f"{self.output.rstrip('/')}/{name}" for name in ("tokenizer", "tokens", "pretrain", "finetune"))

    @model_validator(mode="after")
    def _one_seed(self) -> Self:
        refuse_seed("tokenize.seed", self.tokenize.seed, "seed")
        for part in ("pretrain", "finetune"):
            refuse_seed(f"{part}.loop.seed", getattr(self, part).loop.seed, "seed")
        return self

    @model_validator(mode="after")
    def _what_is_pre_trained_is_taken_over(self) -> Self:
        model = self.finetune.model
        inputs = "codebook" if self.pretrain.objective == "ccvit" else "learned"
        if self.pre_train and (model.inputs != inputs or model.stem_layers):
            raise ValueError(
                f"finetune.model.inputs {model.inputs} and stem_layers {model.stem_layers} with pre_train; expected "
                f"{inputs} and 0, as the pre-trained encoder has them; set these, or pre_train=false"
            )
        if not self.pre_train and self.pretrain.model_dump() != PretrainPart().model_dump():
            raise ValueError("section pretrain with pre_train=false; expected pre_train=true; set it, or drop the keys")
        return self


class RunAll(Quickstart):
    """Tokenise, pre-train, fine-tune and evaluate with one config; each phase a job of a cluster if asked."""

    undecided = Quickstart.undecided | {"submit", "retries", "installed", "env"}

    images: str = Field(description="folder, table or Parquet of images: a path or bucket")
    output: str = Field(description="folder for everything that is written: a path or bucket")
    pre_train: bool = Field(True, description=Quickstart.model_fields["pre_train"].description)
    submit: bool = Field(False, description="each phase is a job, so that its nodes are released when it ends")
    retries: NonNegativeInt = Field(2, description="with submit: new attempts of a failed phase")
    installed: bool = Field(False, description="with submit: the nodes have all packages, the jobs install none")
    env: list[str] = Field([], description="with submit: names of variables of this shell that the jobs get")
