"""Keys of the study of storage against accuracy."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seit_ray.config.augment import Augment
from seit_ray.config.loop import FinetuneLoop, FinetuneOptimizer, check_best, check_schedule, refuse_seed
from seit_ray.config.sections import Codes as Codes
from seit_ray.config.sections import PositiveInt, Rate, Section, Source
from seit_ray.config.study import Study
from seit_ray.config.training import Classifier, Pixels

Quality = Annotated[int, Field(ge=1, le=100)]
Colours = Annotated[int, Field(ge=2, le=256)]
STEM = ("stem_kernel", "stem_stride", "stem_padding", "grid_side")  # decided by the patches of pixels and tokens


class Pictures(Section):
    """Arms of pixels: what is stored of the images in place of tokens; an empty list leaves an arm out."""

    frozen = "seit_ray.studies.arms:PictureArms"

    source: bool = Field(True, description="all images, as they are")
    sizes: tuple[PositiveInt, ...] = Field((), description="short sides in pixels, in the source's own codec")
    jpeg: tuple[Quality, ...] = Field((50, 10, 5), description="qualities of JPEG")
    webp: tuple[Quality, ...] = Field((50, 10, 1), description="qualities of WebP")
    avif: tuple[Quality, ...] = Field((50, 20, 1), description="qualities of AVIF")
    palettes: tuple[Colours, ...] = Field((32, 4, 2), description="numbers of colours of a PNG")


class Tokens(Section):
    """Arms of tokens: each number of codes with each patch, trained once and counted in each encoding."""

    frozen = "seit_ray.studies.arms:TokenArms"

    codebook_sizes: tuple[Codes, ...] = Field((256, 1024), description="numbers of centroids K")
    patch_sizes: tuple[PositiveInt, ...] = Field((8,), description="sides in pixels of the patch of a token")
    encodings: tuple[Literal["plain", "compact"], ...] = Field(
        ("plain", "compact"), description="encodings that are counted; of fewer images, what fits in the last one"
    )
    iterations: PositiveInt = Field(20, description="Lloyd iterations at most")
    sample_images: PositiveInt = Field(5000, description="train images to fit on, a seeded sample")
    sample_patches: PositiveInt = Field(500_000, description="patches to fit on, a seeded sample")


class StudyStorageCurve(Study):
    """Storage against accuracy: tokens and their rivals on the same images, bytes counted, as one table and picture."""

    places = frozenset({"images"})

    images: str = Field(description="labelled images, a folder, table or Parquet: a path or bucket")
    source: Source = Field(default_factory=Source)
    pixels: Pixels = Field(default_factory=Pixels)
    pictures: Pictures = Field(default_factory=Pictures)
    tokens: Tokens = Field(default_factory=Tokens)
    budgets: tuple[PositiveInt, ...] = Field(
        (),
        description="bytes of training data at which fewer images are compared, as they are and as tokens; when left "
        "out, fewer images as they are, in the bytes of each arm of tokens in each encoding",
    )
    equal: tuple[Literal["steps", "epochs"], ...] = Field(
        ("steps", "epochs"), description="of fewer images: as many steps as on all, or as many epochs; both are trained"
    )
    model: Classifier = Field(default_factory=Classifier)
    label_smoothing: Rate = Field(0.1, description="label smoothing of the cross-entropy")
    augment: Augment = Field(default_factory=Augment)
    loop: FinetuneLoop = Field(default_factory=FinetuneLoop)
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)

    @model_validator(mode="after")
    def _arms_that_can_be_compared(self) -> Self:
        check_schedule(self.loop, self.optimizer)
        check_best(self.loop, "classify")
        refuse_seed("loop.seed", self.loop.seed)
        size, patch = self.pixels.image_size, self.pixels.patch_size
        if size % patch:
            raise ValueError(f"pixels.image_size {size}; expected a multiple of pixels.patch_size {patch}; set it")
        for side in self.tokens.patch_sizes:
            if patch % side:
                raise ValueError(
                    f"tokens.patch_sizes {side}; expected what divides pixels.patch_size {patch}, so that all arms "
                    "have the same positions; correct one of them"
                )
        for side in self.pictures.sizes:
            if side >= size:
                raise ValueError(f"pictures.sizes {side}; expected less than pixels.image_size {size}; lower it")
        for name in STEM:
            if name in self.model.model_fields_set:
                raise ValueError(f"model.{name}; expected none, as pixels.patch_size decides the positions; drop it")
        if self.model.train_only != "all":
            raise ValueError("model.train_only attention; expected all, since nothing is pre-trained; leave it out")
        if not (self.tokens.encodings and self.equal):
            raise ValueError("tokens.encodings or equal is empty; expected one at least; name one")
        for budget in self.budgets:
            for codes in self.tokens.codebook_sizes:
                for side in self.tokens.patch_sizes:
                    if budget <= (codebook := 4 * codes * 3 * side**2):
                        raise ValueError(
                            f"budgets {budget}; expected more than the {codebook} bytes of the codebook of {codes} "
                            f"codes of {side}x{side} pixels; raise it, or drop that arm"
                        )
        return self
