"""Keys of training TokenAdapt: which augmentation it learns, its sizes, its run."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from seit_ray.config.loop import Loop, Optimizer, check_best, check_no_layers, check_schedule
from seit_ray.config.sections import NonNegativeFloat, PositiveFloat, PositiveInt, RunName, Section, Seed, Share, Source
from seit_ray.config.training import Workers
from seit_ray.config.verbs import Verb


class Geometry(Section):
    """What an image goes through: flip; rotation, shifts, shears; crop. Take ranges as wide as those of later use."""

    frozen = "seit_ray.runs.settings:GeometrySettings"

    flip_prob: Share = Field(0.5, description="probability of a horizontal flip")
    affine_prob: Share = Field(0.5, description="probability of the chain of rotation, two shifts and two shears")
    link_prob: Share = Field(0.5, description="probability of each of them, within the chain")
    max_angle: NonNegativeFloat = Field(30.0, description="rotation, degrees to both sides")
    max_translate: NonNegativeFloat = Field(0.2, description="shift, share of the side, to both sides")
    max_shear: Annotated[float, Field(ge=0, lt=90)] = Field(15.0, description="shear, degrees to both sides")
    area: tuple[PositiveFloat, PositiveFloat] = Field((0.08, 1.0), description="area of the crop, share of the image")


class AdaptModel(Section):
    """f and g, each a transformer; grid, K and the width of a code come from the tokenizer."""

    frozen = "seit_ray.runs.settings:TokenAdaptSettings"

    width: PositiveInt = Field(384, description="width of the transformers, a multiple of 4")
    depth: PositiveInt = Field(1, description="blocks of each")
    num_heads: PositiveInt = Field(6, description="attention heads")
    head_dim: PositiveInt = Field(64, description="width of a head")
    mlp_width: PositiveInt = Field(1536, description="hidden width of the MLPs")


class AdaptOptimizer(Optimizer):
    """AdamW for TokenAdapt; the papers do not name its training."""

    blr: PositiveFloat = Field(1e-3, description="base rate, scaled by lr_rule")
    warmup_epochs: NonNegativeFloat = Field(0.5, description="epochs of linear warm-up")


class AdaptLoop(Loop):
    """A short training, once for a tokenizer."""

    epochs: PositiveInt = Field(20, description="passes over the train split")
    global_batch_size: PositiveInt = Field(256, description="samples a step over all workers")


class TrainTokenAdapt(Verb):
    """Train TokenAdapt, spatial augmentation of tokens, from images and their tokenizer."""

    undecided = Verb.undecided | {"output", "run", "workers", "replay"}
    places = frozenset({"images", "tokenizer"})

    images: str = Field(description="folder, table or Parquet of images: a path or bucket")
    tokenizer: str = Field(description="folder of the tokenizer; in a token dataset, its folder tokenizer")
    output: str = Field("runs", description="folder that holds the runs: a path or bucket")
    run: RunName = Field(description="name of the run; the same name continues it")
    source: Source = Field(default_factory=Source)
    val_fraction: Share = Field(0.1, description="share held out as val where the source names no splits")
    max_images: PositiveInt | None = Field(None, description="a seeded sample of so many of each split; else all")
    seed: Seed = Field(0, description="seed of the hold-out and the sample")
    out_grid: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="rows and columns of tokens after augmentation; the tokenizer's own when left out"
    )
    geometry: Geometry = Field(default_factory=Geometry)
    model: AdaptModel = Field(default_factory=AdaptModel)
    loop: AdaptLoop = Field(default_factory=AdaptLoop)
    optimizer: AdaptOptimizer = Field(default_factory=AdaptOptimizer)
    workers: Workers = Field(default_factory=Workers)
    replay: PositiveInt | None = Field(None, description="run just this step, which was not finite; writes nothing")

    @property
    def made(self) -> tuple[str, ...]:
        """The run, beside which others lie."""
        return (f"{self.output.rstrip('/')}/{self.run}",)

    @model_validator(mode="after")
    def _warmed_up(self) -> Self:
        check_schedule(self.loop, self.optimizer)
        check_best(self.loop, "tokenadapt")
        check_no_layers(self.optimizer, "TokenAdapt")
        return self
