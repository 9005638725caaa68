"""What a model and its augmentation ask of the data, in numbers: told in the dry run, before a model is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seit_ray.augment.numbers import Grids, check_adapter, check_angles
from seit_ray.config import Augment, Classifier, FitTokenizer, Pixels, Storage
from seit_ray.models.variants import check_pixel_rows, check_stem, model_grid, stem_grid
from seit_ray.verbs.command.places import folder_of

if TYPE_CHECKING:
    from seit_ray.verbs.command.known_tokens import KnownTokens


@contextlib.contextmanager
def mistakes_of(what: str) -> Iterator[None]:
    """A block whose ValueErrors say of what they are, where there are several trainings."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def check_whole_patches(config: FitTokenizer) -> int:
    """Tokens a side of an image; ValueError where patches do not tile it."""
    settings = getattr(config, config.tokenizer)
    if settings.image_size % settings.patch_size:
        raise ValueError(
            f"{config.tokenizer}.image_size {settings.image_size}; expected a multiple of patch_size "
            f"{settings.patch_size}; correct one of them"
        )
    side: int = settings.image_size // settings.patch_size
    return side


def check_token_classifier(model: Classifier, tokens: KnownTokens, encoder: str) -> None:
    """ValueError where the stem does not tile the tokens that the model sees, or the blocks of BEiT have another."""
    grid, stride = model_grid(tokens.grid, model.grid_side), model.stem_stride or model.stem_kernel
    if encoder == "beit":
        check_beit(model)
        if model.stem_padding or stride != model.stem_kernel:
            raise ValueError(
                f"model.stem_stride {stride} and stem_padding {model.stem_padding} with encoder beit; expected "
                f"{model.stem_kernel} and 0, patches side by side; leave them out"
            )
    check_stem(model.stem_kernel, stride, model.stem_padding)
    stem_grid(grid, model.stem_kernel, stride, model.stem_padding)
    if model.stem_pixels:
        if tokens.family != "centroid":
            raise ValueError(
                f"model.stem_pixels with a {tokens.family} tokenizer; expected a centroid tokenizer, whose codes are "
                "pixels; leave it out"
            )
        check_pixel_rows(3 * tokens.patch_side**2, tokens.patch_side, model.stem_layers)


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


def check_augment(augment: Augment, tokens: KnownTokens, grid_side: int | None, storage: Storage) -> None:
    """ValueError where a code has not so many synonyms, or what adapts is of other tokens or grids. grid_side: seen."""
    if augment.synonym_prob:
        from seit_ray.shards.synonyms import check_number

        stored = tokens.num_synonyms if augment.synonym_metric is None else None
        check_number(augment.num_synonyms, tokens.num_codes, stored, tokens.where)
    check_angles(augment.max_angle, augment.max_translate, augment.max_shear)
    if augment.adapt == "none":
        return
    wanted = tokens.grid, model_grid(tokens.grid, grid_side)
    check_adapter(augment.settings(), adapter_grids(augment, tokens, storage) or wanted, wanted)


def adapter_grids(augment: Augment, tokens: KnownTokens, storage: Storage) -> Grids | None:
    """The grids of a trained TokenAdapt; None where pixels take its place. ValueError for one of another tokenizer."""
    from seit_ray.models.about import read_about, reading
    from seit_ray.training.identity import check_same

    if augment.adapt == "pixels":
        if tokens.family != "centroid":
            raise ValueError(
                f"augment.adapt 'pixels' with a {tokens.family} tokenizer; expected a centroid tokenizer, whose codes "
                "are pixels; train TokenAdapt and take augment.adapt=tokenadapt"
            )
        return None
    run = folder_of(augment.adapt_run or "", storage)
    about = read_about(run, "tokenadapt")
    if tokens.tokenizer is not None:
        check_same(about, {"tokenizer": tokens.tokenizer}, run.uri)
    with reading(run.uri):
        grid, out_grid = (tuple(about["settings"][name]) for name in ("grid", "out_grid"))
    return grid, out_grid
