"""Keys of the study of transfer: pre-trained on one set, probed and fine-tuned on others."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seit_ray.config.augment import Augment, Masking
from seit_ray.config.loop import (
    FinetuneLoop,
    FinetuneOptimizer,
    Loop,
    Optimizer,
    check_best,
    check_schedule,
    refuse_seed,
)
from seit_ray.config.methods import Ccvit, Dtm
from seit_ray.config.sections import Codes, PositiveInt, Rate, Section, Source, Texts
from seit_ray.config.storage_curve import STEM
from seit_ray.config.study import Study
from seit_ray.config.training import Classifier, Pixels

TEACHER = ("teacher", "teacher_weights")  # keys of dtm that the row dtm_images alone reads
Row = Literal[
    "scratch",
    "scratch_ccvit",
    "supervised",
    "mtm",
    "dtm",
    "dtm_codebook",
    "dtm_run",
    "dtm_stream",
    "ccvit",
    "ccvit_dtm",
    "ccvit_images",
    "dtm_images",
    "pixels",
]
Column = Literal[
    "probe_tokens", "probe_new_tokens", "probe_pixels", "finetune_tokens", "finetune_new_tokens", "finetune_pixels"
]


class StudyTokenizer(Section):
    """The centroid tokenizer of a study, at the image size of its pixels."""

    patch_size: PositiveInt = Field(8, description="side in pixels of the patch of a token")
    codebook_size: Codes = Field(1024, description="number of centroids K")
    iterations: PositiveInt = Field(20, description="Lloyd iterations at most")
    sample_images: PositiveInt = Field(5000, description="train images to fit on, a seeded sample")
    sample_patches: PositiveInt = Field(500_000, description="patches to fit on, a seeded sample")


class StudyPretraining(Section):
    """Pre-training of the rows mtm, ccvit and dtm (and of both); each reads its own of masking, ccvit and dtm."""

    masking: Masking = Field(default_factory=Masking)
    augment: Augment = Field(default_factory=Augment)
    ccvit: Ccvit = Field(default_factory=Ccvit)
    dtm: Dtm = Field(default_factory=Dtm)
    loop: Loop = Field(default_factory=Loop)
    optimizer: Optimizer = Field(default_factory=Optimizer)

    @model_validator(mode="after")
    def _warmed_up(self) -> Self:
        check_schedule(self.loop, self.optimizer)
        return self


class StudyTraining(Section):
    """Training of a classifier."""

    label_smoothing: Rate = Field(0.1, description="label smoothing of the cross-entropy")
    augment: Augment = Field(default_factory=Augment)
    loop: FinetuneLoop = Field(default_factory=FinetuneLoop)
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)

    @model_validator(mode="after")
    def _warmed_up(self) -> Self:
        check_schedule(self.loop, self.optimizer)
        check_best(self.loop, "classify")
        return self


class StudyTransfer(Study):
    """Transfer: what kinds of pre-training on one set are worth on others, by probes and fine-tunings, as one table."""

    places = frozenset({"images"})

    images: str = Field(description="labelled images to pre-train on, set A: a path or bucket")
    targets: Annotated[Texts, Field(min_length=1)] = Field(description="labelled sets to transfer to: paths or buckets")
    source: Source = Field(default_factory=Source)
    rows: Annotated[tuple[Row, ...], Field(min_length=1)] = Field(
        ("scratch", "supervised", "mtm", "ccvit", "dtm"),
        description="kinds of pre-training on the tokens of A; dtm: MTM and token morphing, as pretrain.dtm says, and "
        "dtm_codebook, dtm_run, dtm_stream the same towards rows of the codebook, the row mtm, other tokens of A; "
        "ccvit_dtm: CCViT and token morphing; ccvit_images, dtm_images: as published, on A's images, towards the "
        "tokenizer of its tokens, and pretrain.dtm.teacher; scratch_ccvit: CCViT's encoder, not trained before; "
        "pixels: supervised, on as many of A's images as take the bytes of its tokens (storage-efficient pre-training)",
    )
    columns: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(
        ("probe_tokens", "finetune_tokens", "finetune_new_tokens", "finetune_pixels"),
        description="linear probe or fine-tuning, on tokens of A's tokenizer, on tokens of one that is fitted on the "
        "target, or on pixels",
    )
    pixels: Pixels = Field(default_factory=Pixels)
    tokenizer: StudyTokenizer = Field(default_factory=StudyTokenizer)
    second_codebook_size: Codes | None = Field(
        None, description="row dtm_stream: K of the other tokens of A; default four times tokenizer.codebook_size"
    )
    model: Classifier = Field(default_factory=Classifier)
    pretrain: StudyPretraining = Field(default_factory=StudyPretraining)
    supervised: StudyTraining = Field(default_factory=StudyTraining)
    finetune: StudyTraining = Field(default_factory=StudyTraining)

    @model_validator(mode="after")
    def _a_table_that_can_be_filled(self) -> Self:
        size, patch, side = self.pixels.image_size, self.pixels.patch_size, self.tokenizer.patch_size
        if size % patch or patch % side:
            raise ValueError(
                f"pixels.image_size {size}, pixels.patch_size {patch}, tokenizer.patch_size {side}; expected each to "
                "be a multiple of the next, so that tokens and pixels have the same positions; correct them"
            )
        for name in STEM:
            if name in self.model.model_fields_set:
                raise ValueError(f"model.{name}; expected none, as pixels.patch_size decides the positions; drop it")
        for name in ("encoder", "train_only"):
            if name in self.model.model_fields_set:
                raise ValueError(f"model.{name}; expected none, as each row has its own; drop it")
        if self.pretrain.ccvit.tokenizer:
            raise ValueError("pretrain.ccvit.tokenizer; expected none, as the study fits its own; drop it")
        check_morphing(self.pretrain.dtm, self.rows)
        for part in ("pretrain", "supervised", "finetune"):
            refuse_seed(f"{part}.loop.seed", getattr(self, part).loop.seed)
        names = [name_of(target) for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError(f"targets {', '.join(self.targets)}; expected folders of different names; rename one")
        for what, given in (("rows", self.rows), ("columns", self.columns)):
            if len(set(given)) < len(given):
                raise ValueError(f"{what} {', '.join(given)}; expected each once; drop the second")
        if "pixels" in self.rows and not any(column.endswith("_pixels") for column in self.columns):
            raise ValueError("row pixels without a column of pixels; expected one; add finetune_pixels to columns")
        return self


def check_morphing(dtm: Dtm, rows: tuple[str, ...]) -> None:
    """ValueError for a target that a row has of its own, and for what a row lacks."""
    if dtm.target not in (None, "average", "codebook"):
        raise ValueError(
            f"pretrain.dtm.target {dtm.target}; expected average or codebook, as the others have rows of their own; "
            "set one of them"
        )
    for name in ("target_run", "target_dataset"):
        if getattr(dtm, name):
            raise ValueError(f"pretrain.dtm.{name}; expected none, as the study makes its own; drop it")
    if "dtm_run" in rows and "mtm" not in rows:
        raise ValueError("row dtm_run without mtm, whose run it compares with; expected both; add mtm to rows")
    for name in TEACHER:
        if "dtm_images" in rows and not getattr(dtm, name):
            raise ValueError(
                f"row dtm_images without pretrain.dtm.{name}; expected a timm model and the file of its weights; name "
                "both"
            )


def name_of(target: str) -> str:
    """What a target is called in the table: the last part of its address."""
    return target.rstrip("/").rpartition("/")[2]
