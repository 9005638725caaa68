"""Keys of the study of continual learning: the protocol, the memories that are compared, and the trainings."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seit_ray.config.loop import Loop, Optimizer, check_schedule
from seit_ray.config.sections import (
    Codes,
    Decay,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Rate,
    Seed,
    Share,
    Source,
    Texts,
    described,
)
from seit_ray.config.study import Study
from seit_ray.config.tokenizers import Centroid
from seit_ray.config.training import Classifier

ARMS = (
    *("tokens_compact", "tokens_plain", "jpeg_95", "jpeg_50", "jpeg_10", "raw"),
    *("none", "none_tokens", "joint", "joint_tokens"),
)


class ContinualCentroid(Centroid):
    """The tokenizer of a study of small images."""

    image_size: PositiveInt = Field(32, description=described(Centroid, "image_size"))
    patch_size: PositiveInt = Field(4, description=described(Centroid, "patch_size"))
    codebook_size: Codes = Field(256, description=described(Centroid, "codebook_size"))


class ContinualModel(Classifier):
    """The transformer, the same on tokens and on pixels of the same positions."""

    size: Literal["nano", "tiny", "small", "base", "large"] = Field("nano", description=described(Classifier, "size"))
    inputs: Literal["learned", "codebook"] = Field("codebook", description=described(Classifier, "inputs"))
    standardize: bool = Field(True, description=described(Classifier, "standardize"))
    dropout: Rate = Field(0.0, description=described(Classifier, "dropout"))

    @model_validator(mode="after")
    def _the_same_on_pixels(self) -> Self:
        for name in ("stem_layers", "stem_pixels", "grid_side"):
            if getattr(self, name):
                raise ValueError(
                    f"model.{name} {getattr(self, name)}; expected none, so that transformers of tokens and of pixels "
                    "see the same; leave it out"
                )
        if self.train_only != "all":
            raise ValueError("model.train_only attention; expected all, since nothing is pre-trained; leave it out")
        return self


class ContinualLoop(Loop):
    """The training of a step, in epochs of its new images: exemplars beside them take no more steps."""

    epochs: PositiveInt = Field(30, description=described(Loop, "epochs"))
    global_batch_size: PositiveInt = Field(64, description=described(Loop, "global_batch_size"))
    eval_every_epochs: PositiveInt = Field(1000, description=described(Loop, "eval_every_epochs"))
    checkpoint_every_epochs: PositiveInt = Field(10, description=described(Loop, "checkpoint_every_epochs"))
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field((), description=described(Loop, "trackers"))

    @model_validator(mode="after")
    def _nothing_chosen_on_what_is_measured(self) -> Self:
        if self.keep_best:
            raise ValueError("loop.keep_best; expected none: the last weights of a step go on; leave it out")
        return self


class ContinualOptimizer(Optimizer):
    """AdamW, anew in every step."""

    lr: PositiveFloat | None = Field(1e-3, description=described(Optimizer, "lr"))
    warmup_epochs: NonNegativeFloat = Field(2, description=described(Optimizer, "warmup_epochs"))
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description=described(Optimizer, "betas"))
    clip_grad: PositiveFloat | None = Field(1.0, description=described(Optimizer, "clip_grad"))


class StudyContinual(Study):
    """Continual learning: classes come step by step beside a memory of bytes, as tokens, as JPEG or as pixels."""

    frozen = "seit_ray.runs.continual_settings:ContinualSettings"
    undecided = Study.undecided | {"arms", "budgets", "selections"}
    places = frozenset({"images", "tokenizer"})

    images: str = Field(description="folder, table or Parquet of labelled images: a path or bucket")
    source: Source = Field(default_factory=Source)
    val_fraction: Share = Field(0.0, description="share held out as val where the source names no splits")
    split_seed: Seed = Field(0, description="seed of the hold-out, and of the sample of max_images")
    max_images: PositiveInt | None = Field(None, description="a seeded sample of each split; all when left out")
    tokenizer: str | None = Field(
        None, description="folder of a fitted tokenizer; else centroids are fitted on the first step's images alone"
    )
    centroid: ContinualCentroid = Field(default_factory=ContinualCentroid)
    arms: Texts = Field(
        ARMS, description="what is kept: tokens_compact|tokens_plain|jpeg_QUALITY|raw; none; joint is the bound"
    )
    budgets: tuple[PositiveInt, ...] = Field(
        (100_000,), description="bytes of the memory: exemplars, labels, and the tokenizer of arms of tokens"
    )
    selections: tuple[Literal["herding", "random"], ...] = Field(
        ("herding", "random"), description="how exemplars are chosen: nearest to the mean of the features, or drawn"
    )
    num_steps: PositiveInt = Field(5, description="steps in which the classes come, in equal shares")
    order_seed: Seed = Field(
        1993, description="of the order of classes of seed 0 (1993 is the field's); seed s has that of order_seed + s"
    )
    balance: Literal["finetune", "align", "none"] = Field(
        "finetune", description="after each step: train on even exemplars, align the head's rows (WA), or neither"
    )
    balance_epochs: PositiveInt = Field(10, description="of finetune: as loop.epochs, in number of steps")
    balance_rate: PositiveShare = Field(0.1, description="of finetune: share of the peak learning rate")
    encoder_travels: bool = Field(
        True, description="of a ViT-VQGAN tokenizer: its encoder counts as bytes, as new images are to be encoded"
    )
    label_smoothing: Rate = Field(0.0, description="label smoothing of the cross-entropy")
    mixup_alpha: NonNegativeFloat = Field(0.0, description="MixUp, of pixels and of codebook rows alike; 0 = off")
    cutmix_alpha: NonNegativeFloat = Field(0.0, description="CutMix, of pixels and of codebook rows alike; 0 = off")
    model: ContinualModel = Field(default_factory=ContinualModel)
    loop: ContinualLoop = Field(default_factory=ContinualLoop)
    optimizer: ContinualOptimizer = Field(default_factory=ContinualOptimizer)

    @model_validator(mode="after")
    def _runnable(self) -> Self:
        check_schedule(self.loop, self.optimizer)
        if self.centroid.num_workers:
            raise ValueError(
                f"centroid.num_workers {self.centroid.num_workers}; expected 0, since trials share the cores; leave it "
                "out"
            )
        if max(self.seeds) + self.order_seed >= 1 << 32:
            raise ValueError(
                f"seeds {max(self.seeds)} and order_seed {self.order_seed}; expected less than {1 << 32} together, as "
                "the field draws the order of classes by numpy's old generator; lower them"
            )
        for name in ("arms", "budgets", "selections"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} {list(values)}; expected one or more, none of them twice; correct {name}")
        return self
