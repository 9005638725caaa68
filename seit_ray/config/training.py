"""Keys of a training run: workers, model, probes, pixels, segmentation."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_serializer, field_validator, model_validator

from seit_ray.config.sections import (
    CropArea,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Rate,
    Section,
    Seed,
    Share,
    described,
)


class Workers(Section):
    """Training workers."""

    frozen = "seit_ray.runs.settings:WorkerSettings"

    num_workers: NonNegativeInt | tuple[PositiveInt, PositiveInt] = Field(
        2,
        description="DDP workers; 0 trains in this process, without Ray; [least, most] takes what nodes there are",
    )
    gpus_per_worker: NonNegativeFloat | None = Field(None, description="default: 1 if the cluster has GPUs")
    cpus_per_worker: PositiveInt = Field(1, description="CPUs, and torch threads, of a worker")
    max_failures: NonNegativeInt = Field(3, description="restarts after lost workers, from the last checkpoint")
    resize_every_s: PositiveFloat = Field(60, description="with [least, most]: look so often for nodes that have come")

    @field_validator("num_workers", mode="plain")
    @classmethod
    def _number_or_range(cls, value: Any) -> int | tuple[int, int]:
        numbers = value if isinstance(value, list | tuple) else [value]
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        if whole and numbers is not value and value >= 0:
            return value
        if whole and len(numbers) == 2 and 1 <= numbers[0] <= numbers[1]:
            return tuple(numbers)
        raise ValueError("a whole number of 0 or more, or [least, most] of 1 or more")

    @field_serializer("num_workers", when_used="json")
    def _as_list(self, value: int | tuple[int, int]) -> int | list[int]:
        return list(value) if isinstance(value, tuple) else value  # pydantic warns of a tuple that is one of two types


class WorkersHere(Workers):
    """Workers of what is short: none, unless it is asked for."""

    num_workers: NonNegativeInt | tuple[PositiveInt, PositiveInt] = Field(
        0, description=described(Workers, "num_workers")
    )


class Model(Section):
    """Vision transformer of tokens; grid, K and classes come from the token dataset."""

    frozen = "seit_ray.runs.settings:ModelSettings"

    size: Literal["nano", "tiny", "small", "base", "large"] = Field("base", description="named size")
    width: PositiveInt | None = Field(None, description="overrides the size's width")
    depth: PositiveInt | None = Field(None, description="overrides the size's number of blocks")
    num_heads: PositiveInt | None = Field(None, description="overrides the size's heads")
    decoder_width: PositiveInt | None = Field(None, description="overrides the width of the MTM decoder")
    decoder_depth: PositiveInt | None = Field(None, description="overrides the blocks of the MTM decoder")
    decoder_num_heads: PositiveInt | None = Field(None, description="overrides the heads of the MTM decoder")
    token_dim: PositiveInt = Field(32, description="width of the learned token embedding")
    stem_kernel: PositiveInt = Field(2, description="side in tokens of the stem's kernel (SeiT: 4; SeiT++: 2)")
    grid_side: PositiveInt | None = Field(
        None, description="side of the crop of the token grid that the model sees (SeiT: 28 of 32); all when left out"
    )
    dropout: Rate = Field(0.1, description="dropout of the token embedding and of the MTM decoder")


class Classifier(Model):
    """The classifier's own keys beside the encoder's."""

    frozen = "seit_ray.runs.settings:ClassifierSettings"

    inputs: Literal["learned", "codebook"] = Field(
        "learned", description="a learned token embedding (SeiT++), or rows of the tokenizer's codebook (SeiT)"
    )
    stem_stride: PositiveInt | None = Field(None, description="stride of the stem; its kernel when left out (SeiT: 2)")
    stem_padding: NonNegativeInt = Field(0, description="padding of the stem (SeiT: 1)")
    stem_layers: NonNegativeInt = Field(
        0, description="3x3 convolutions over the tokens (or pixels) before the stem, each with GroupNorm and GELU"
    )
    stem_width: PositiveInt = Field(64, multiple_of=8, description="channels of each of stem_layers")
    stem_pixels: bool = Field(
        False,
        description="with inputs=codebook of a centroid tokenizer: stem_layers see its rows as the pixels that they "
        "are, and the first of them halve the sides until they are those of the grid",
    )
    standardize: bool = Field(
        False, description="with inputs=codebook: rows by mean and deviation of the codebook (for centroids: pixels)"
    )
    encoder: Literal["vit", "beit"] | None = Field(
        None, description="blocks of ViT, or of BEiT (CCViT, DTM); default those of init_from, else vit"
    )
    train_only: Literal["all", "attention"] = Field(
        "all", description="fine-tune everything, or attention, head and what is new"
    )
    pool: Literal["mean", "cls"] = Field("mean", description="read-out: mean of patches, or class token")
    drop_path: Rate = Field(0.1, description="stochastic depth of the last block, linear over depth")

    @model_validator(mode="after")
    def _rows_of_a_codebook(self) -> Self:
        if "standardize" not in self.model_fields_set and (self.inputs != "codebook" or self.encoder == "beit"):
            self.standardize = False  # where it is the default, it is that of rows, in a stem that is not BEiT's
        for name in ("standardize", "stem_pixels"):
            if getattr(self, name) and self.inputs != "codebook":
                raise ValueError(
                    f"model.inputs=codebook where model.{name} is true, since it acts on the codebook's rows; it is "
                    f"{self.inputs}: set model.inputs=codebook, or leave model.{name} out"
                )
        if self.stem_pixels and not self.stem_layers:
            raise ValueError(
                "model.stem_layers of 1 or more where model.stem_pixels is true, since they see the pixels; set it"
            )
        return self


class Probe(Section):
    """Probes of the frozen encoder while it is pre-trained: linear and kNN, which need labels, and RankMe."""

    frozen = "seit_ray.runs.settings:ProbeSettings"

    every_epochs: NonNegativeInt = Field(
        0, description="probe this often, at the first evaluation that is due then; 0 = never"
    )
    methods: tuple[Literal["linear", "knn", "rankme"], ...] = Field(
        ("linear", "knn", "rankme"),
        description="accuracy of two probes; effective rank of the features, without labels",
    )
    max_train: PositiveInt = Field(10_000, description="train samples to fit on, a seeded sample")
    max_val: PositiveInt = Field(10_000, description="val samples to score, a seeded sample")
    k: PositiveInt = Field(20, description="neighbours of the kNN probe")
    temperature: PositiveFloat = Field(0.07, description="of the kNN probe: votes weigh exp(cosine / temperature)")
    ridge: NonNegativeFloat | Literal["auto"] = Field(
        "auto", description="of the linear probe: L2 penalty of its weights; auto takes the best of five on a tenth"
    )
    epochs: PositiveInt = Field(50, description="of the linear probe: L-BFGS iterations at most, each over all samples")


class Pixels(Section):
    """Images as the classifier of pixels sees them."""

    frozen = "seit_ray.runs.settings:PixelSettings"

    image_size: PositiveInt = Field(224, description="side in pixels")
    patch_size: PositiveInt = Field(16, description="side in pixels of a patch of the new stem")
    resize: Literal["squash", "crop"] = Field(
        "squash", description="squash both sides, or scale the short side and crop the centre"
    )
    val_fraction: Share = Field(0.0, description="share held out as val where the source names no splits")
    seed: Seed = Field(0, description="seed of the hold-out and the sample; of tokens it is tokenize.seed")
    max_images: PositiveInt | None = Field(None, description="a seeded sample of each split; all when left out")
    crop_area: CropArea | None = Field((0.08, 1.0), description="random resized crop; empty = none")
    flip_prob: Share = Field(0.5, description="horizontal flip")


class Segment(Section):
    """With task=segment: the heads, the crops and the windows; the optimizer and the rest are those of the verb."""

    frozen = "seit_ray.runs.settings:SegmentSettings"

    head: Literal["uper", "linear"] = Field("uper", description="UPerNet on four blocks, or a linear map of the last")
    head_width: PositiveInt = Field(256, multiple_of=8, ge=16, description="of UPerNet (published: 768; L: 1,024)")
    aux_width: NonNegativeInt = Field(
        256, multiple_of=8, description="of the auxiliary head on the third map, in training alone; 0 = none"
    )
    aux_weight: NonNegativeFloat = Field(0.4, description="of the auxiliary loss")
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="the blocks whose patches are read; default a third, half, two thirds, last (4, 6, 8, 12)"
    )
    max_class_share: Share = Field(
        0.75, description="crops are drawn, ten times at most, until no class has more of the pixels that count"
    )
    stride: PositiveInt | None = Field(
        None, description="tokens between the windows of an evaluation; default two thirds of model.grid_side"
    )

    @field_validator("aux_width")
    @classmethod
    def _none_or_wide(cls, value: int) -> int:
        if 0 < value < 16:
            raise ValueError("0, or 16 or more")
        return value
