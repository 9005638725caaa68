"""What a model and its augmentation ask of the data, in numbers: told in the dry run, before a model is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seit_ray.config import Augment, Classifier, Pixels
from seit_ray.models.variants import stem_grid

if TYPE_CHECKING:
    from seit_ray.images.manifest import Manifest


def check_token_classifier(model: Classifier, grid: tuple[int, int], encoder: str) -> None:
    """ValueError where the stem does not tile the tokens that the model sees, or the blocks of BEiT have another."""
    stride = model.stem_stride or model.stem_kernel
    if encoder == "beit":
        check_beit(model)
        if model.stem_padding or stride != model.stem_kernel:
            raise ValueError(
                f"model.stem_stride {stride} and stem_padding {model.stem_padding} with encoder beit; expected "
                f"{model.stem_kernel} and 0, patches side by side; leave them out"
            )
    stem_grid(grid, model.stem_kernel, stride, model.stem_padding)


def check_pixel_classifier(model: Classifier, pixels: Pixels, encoder: str) -> None:
    """ValueError where patches do not tile the image, or the blocks of BEiT have no such stem."""
    size, patch = pixels.image_size, pixels.patch_size
    if size % patch:
        raise ValueError(f"pixels.image_size {size}; expected a multiple of pixels.patch_size {patch}; correct one")
    if encoder == "beit":
        check_beit(model)


def check_beit(model: Classifier) -> None:
    """ValueError for what the stem of BEiT has not."""
    for name in ("stem_layers", "standardize"):
        if getattr(model, name):
            raise ValueError(
                f"model.{name} {getattr(model, name)} with encoder beit; expected none, as its stem is one of patches; "
                "leave it out, or take encoder vit"
            )


def check_synonyms(augment: Augment, num_codes: int) -> None:
    """ValueError where a code has not so many others."""
    if augment.synonym_prob and augment.num_synonyms >= num_codes:
        raise ValueError(
            f"augment.num_synonyms {augment.num_synonyms} of {num_codes} codes; expected 1 to {num_codes - 1}; lower it"
        )


def check_image_steps(manifest: Manifest, max_images: int | None, batch: int, epochs: int, uri: str) -> None:
    """ValueError where the train images give not one step, if there are any, which the run itself asks."""
    from seit_ray.batches.sampler import num_steps

    train = manifest.splits.get("train")
    if train is None or not train.num_images:
        return
    try:
        num_steps(min(train.num_images, max_images or train.num_images), batch, epochs)
    except ValueError as error:
        raise ValueError(f"{uri}: {error}") from error
