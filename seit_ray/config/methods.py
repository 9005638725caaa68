"""Keys of pre-training by CCViT and DTM."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from seit_ray.config.sections import (
    CropArea,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
)
from seit_ray.config.training import Pixels


class PretrainPixels(Pixels):
    """Images, or decoded centroid tokens, as they are pre-trained on (CCViT, DTM)."""

    frozen = "seit_ray.runs.method_settings:PretrainPixelSettings"

    crop_area: CropArea | None = Field((0.2, 1.0), description="random resized crop; empty = none")
    color_jitter: Share = Field(
        0.0, description="brightness, contrast and saturation, in an order of each image's own (DTM: 0.4)"
    )


class Ccvit(Section):
    """CCViT: a patch's code and its pixels, of masked and replaced patches; a centroid tokenizer's codes."""

    frozen = "seit_ray.runs.method_settings:CcvitSettings"
    places = frozenset({"tokenizer"})

    tokenizer: str | None = Field(None, description="of images: folder of a centroid tokenizer")
    sees: Literal["pixels", "codebook"] | None = Field(
        None,
        description="what the model reads of stored tokens: centroid rows through an equal stem (codebook, the default "
        "there), or decoded pixels, which can be cropped and flipped",
    )
    loss: Literal["dual", "two_ce_shared", "two_ce_soft_shared"] = Field(
        "dual", description="code and pixels; the code from both branches; expected pixels from both, of all patches"
    )
    replace: Literal["own", "near", "random", "none"] | None = Field(
        None,
        description="what a replaced patch becomes: its own centroid (default on images), one of the nearest others "
        "(default on tokens), any, or nothing",
    )
    num_masked: PositiveInt | None = Field(None, description="masked patches; default 75 of 196")
    num_replaced: NonNegativeInt | None = Field(None, description="replaced patches beside them; default 20 of 196")
    min_block: PositiveInt | None = Field(None, description="patches of a masked block at least; default 16 of 196")
    num_near: PositiveInt = Field(16, description="how many nearest codes replace=near and soft labels choose from")
    soft_tau: NonNegativeFloat = Field(
        0.0, description="spread labels over the nearest codes by exp(-squared distance / tau); 0 = one-hot"
    )
    pixel_weight: NonNegativeFloat = Field(1.0, description="weight of branch 2")
    min_std: PositiveFloat | None = Field(
        None, description="a patch that varies less than this (of 1) is flat; default 0.001 of images, 0.01 of tokens"
    )
    early_layers: PositiveInt | None = Field(
        None, description="branch 2 takes its patches from behind this block; default the fourth from the end"
    )
    head_layers: PositiveInt = Field(2, description="blocks of branch 2")
    layer_scale: PositiveFloat = Field(0.1, description="layer scale at the start (large: 1e-5)")


STUDENT = ("num_masked", "min_block", "layer_scale", "own_bias")  # keys of dtm that are read on images alone


class Dtm(Section):
    """Token morphing: groups of alike target tokens, and the distance of their means."""

    frozen = "seit_ray.runs.method_settings:DtmSettings"
    places = frozenset({"target_run", "target_dataset", "teacher_weights"})

    weight: NonNegativeFloat | None = Field(
        None, description="weight of the loss; default 1 for objective=dtm, 0 (off) for ccvit"
    )
    target: Literal["codebook", "average", "run", "stream", "teacher"] | None = Field(
        None,
        description="what is compared with: codebook rows, the run's moving average (default on tokens; needs "
        "loop.ema_decay), a finished run, a second token dataset, a timm model on images (default there)",
    )
    target_run: str | None = Field(None, description="target=run: folder of a finished run on the same tokens")
    target_dataset: str | None = Field(None, description="target=stream: dataset of other tokens of the same images")
    teacher: str | None = Field(
        None, description="target=teacher: name of a timm model, such as vit_base_patch16_clip_quickgelu_224"
    )
    teacher_weights: str | None = Field(None, description="target=teacher: file of its weights: torch or safetensors")
    loss: Literal["features", "histograms", "labels"] = Field(
        "features",
        description="of predicted features; of histograms of codes; of labels mixed with a group's (these two hold the "
        "scores of all patches)",
    )
    on: Literal["patches", "codes"] = Field("patches", description="what is grouped; codes with target=codebook alone")
    levels: PositiveInt = Field(2, description="schedules a step")
    max_removed: NonNegativeInt | None = Field(None, description="merges of a schedule at most; default all tokens")
    max_iterations: PositiveInt | None = Field(None, description="iterations at most; default the grid's longer side")
    split: Literal["parity", "random"] = Field("parity", description="who may merge into whom: by place, or at random")
    protect: Literal["none", "first"] = Field("none", description="first: position 0 never merges (as published)")
    distance: Literal["smooth_l1", "l1", "l2", "cosine"] = Field("smooth_l1", description="of group means; beta is 2")
    normalize_target: bool = Field(False, description="standardise the group means of the targets")
    label_share: Share = Field(0.5, description="loss=labels: share of a group's histogram in the label")
    num_masked: PositiveInt | None = Field(None, description="of images: masked patches; default 75 of 196")
    min_block: PositiveInt | None = Field(None, description="of images: patches of a block; default 16 of 196")
    layer_scale: Annotated[float, Field(gt=0)] = Field(0.1, description="of images: layer scale at the start")
    own_bias: bool = Field(False, description="of images: a position bias a block beside the shared one (published)")
