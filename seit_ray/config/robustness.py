"""Keys of an evaluation of robustness: corrupted images, and tokens with units removed or shuffled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from seit_ray.config.sections import Section, Texts


def _several(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else (given,)


Numbers = Annotated[tuple[int, ...], BeforeValidator(_several)]
Shares = Annotated[tuple[float, ...], BeforeValidator(_several)]


class Robustness(Section):
    """Keys beside those of a plain evaluation."""

    corruptions: Texts = Field(
        (),
        description="of images: corruptions by name, imagenet_c (15), imagenet_c_extra (4), or noise, blur, weather, "
        "digital",
    )
    severities: Numbers = Field((1, 2, 3, 4, 5), description="of corruptions: 1 to 5")
    strengths: Literal["auto", "imagenet_c", "cifar10_c"] = Field(
        "auto",
        description="of corruptions: published for 224 pixels or for 32; by the image's side, below 64 the latter",
    )
    baseline: str | None = Field(
        None, description="of corruptions: run, or file of figures, whose errors are 100 % of mCE"
    )
    classes: Literal["all", "present"] = Field(
        "all", description="of images: score all classes of the run, or those that the split has (ImageNet-R, -A)"
    )
    occlusion: Shares = Field((), description="of a dataset: shares of the units (patches) that are removed")
    shuffle: Shares = Field((), description="of a dataset: shares of the units that change places")
