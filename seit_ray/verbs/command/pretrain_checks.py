"""What must fit before a pre-training begins: keys that go together, the dataset, patches, counts, targets."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from seit_ray.config import Pretrain
from seit_ray.config.methods import STUDENT
from seit_ray.storage import Folder
from seit_ray.verbs.command.known_tokens import KnownTokens, check_kept_of
from seit_ray.verbs.command.morph_checks import check_morphing, check_stream, morphs, patches_of
from seit_ray.verbs.command.places import folder_of
from seit_ray.verbs.command.shape_checks import check_augment
from seit_ray.verbs.command.training import check_size
from seit_ray.verbs.command.unread import changed, check_augment_keys, refuse_unread

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset

MIXING = ("mixup_alpha", "cutmix_alpha", "adapt_mixup_alpha", "adapt_cutmix_alpha")
RATIO = {"minimum": "min", "mu": "mu", "std": "std", "maximum": "max"}
UNREAD = {  # objective -> sections that it does not read, on tokens and on images
    "mtm": (("source", "pixels", "ccvit", "dtm"), ()),
    "ccvit": (("source", "masking"), ("masking", "augment")),
    "dtm": (("source", "pixels", "ccvit"), ("masking", "augment", "ccvit")),
}


def check_pretrain(config: Pretrain, opened: TokenDataset | None = None, searched: Collection[str] = ()) -> Folder:
    """The dataset or the images; ValueError, before anything is read at length, for what does not fit.

    A sweep asks for each of its trials. opened: the dataset, where it has been opened; searched: keys of the space.
    """
    named = config.dataset or config.images
    if not named or (config.dataset and config.images):
        raise ValueError(
            f"dataset {config.dataset} and images {config.images}; expected one of them; dataset=FOLDER trains on "
            "tokens, images=FOLDER on pixels"
        )
    if config.images and config.objective == "mtm":
        raise ValueError("images with objective mtm; expected tokens; set dataset, or objective=ccvit or dtm")
    data = folder_of(named, config.storage)
    if not config.dataset:
        check_numbers(config, None)
        return data
    from seit_ray.shards.dataset import TokenDataset
    from seit_ray.shards.split_checks import check_rows

    dataset = opened or TokenDataset(data)
    check_rows(dataset, "train")
    check_numbers(config, KnownTokens.of(dataset), searched)
    check_kept_of(config.loop.keep_best, dataset)
    if morphs(config) and config.dtm.target == "stream":
        check_stream(config, dataset)
    return data


def check_numbers(config: Pretrain, tokens: KnownTokens | None, searched: Collection[str] = ()) -> None:
    """ValueError for keys that nothing reads, numbers that do not go together, or do not fit the tokens.

    tokens: those of a dataset, or yet to be made; None of images.
    """
    check_sections(config)
    check_augment_keys(config, searched=searched)
    check_shape(config, tokens)
    if config.objective == "ccvit":
        grid = check_ccvit(config, tokens)
    else:
        grid = check_student(config) if tokens is None else check_masking(config, tokens)
    if morphs(config):
        check_morphing(config, tokens, grid)


def check_shape(config: Pretrain, tokens: KnownTokens | None) -> None:
    """ValueError for sizes that do not go together, patches that do not tile the tokens, or augmentation of others."""
    check_size(config.model)
    if tokens is not None:
        patches_of(config, tokens)
        check_augment(config.augment, tokens, config.model.grid_side, config.storage)


def check_student(config: Pretrain) -> tuple[int, int]:
    """The patches of a student of images; ValueError where these do not tile them, or too many are masked."""
    from seit_ray.augment.mask_counts import check_counts, num_masked_of, patch_grid_of

    size = config.pixels.image_size
    grid = patch_grid_of((size, size), config.pixels.patch_size)
    check_counts(grid, num_masked_of(grid, config.dtm.num_masked))
    return grid


def check_masking(config: Pretrain, tokens: KnownTokens) -> tuple[int, int]:
    """The patches; ValueError for mask ratios, labels or widths that masked token modelling has not."""
    from seit_ray.augment.mask_counts import check_left, check_ratio
    from seit_ray.augment.target_numbers import check_masked_labels
    from seit_ray.models.variants import check_positions

    masking, (height, width) = config.masking, patches_of(config, tokens)
    check_masked_labels(masking.label_smoothing, masking.loss)
    check_ratio(**{name: getattr(masking, f"mask_ratio_{end}") for name, end in RATIO.items()})
    check_left(masking.mask_ratio_min, height * width)
    check_positions(check_size(config.model).width)
    return height, width


def check_sections(config: Pretrain) -> None:
    """ValueError for a section, or a key of dtm, that says something and is not read."""
    on_images = bool(config.images)
    unread = list(UNREAD[config.objective][on_images])
    if config.objective == "ccvit" and not on_images:
        unread.append("augment" if config.ccvit.sees == "pixels" else "pixels")
    if config.objective == "ccvit" and not morphs(config):
        unread.append("dtm")
    where = f"with objective {config.objective} on {'images' if on_images else 'tokens'}"
    for name in unread:
        hint = "set dtm.weight" if (name, config.objective) == ("dtm", "ccvit") else "leave it out"
        refuse_unread(config, (name,), where, hint)
    refuse_unread(config, [f"augment.{name}" for name in MIXING], "of a pre-training, which has no labels")
    stray = [key for key in STUDENT if changed(config.dtm, key)]
    if stray and morphs(config) and not (config.objective == "dtm" and on_images):
        refuse_unread(config, [f"dtm.{key}" for key in stray], "beside another objective")


def check_ccvit(config: Pretrain, tokens: KnownTokens | None) -> tuple[int, int]:
    """The patches; ValueError when tokenizer, patches, counts or blocks do not fit CCViT."""
    from seit_ray.models.variants import model_grid

    ccvit, unit = config.ccvit, config.model.stem_kernel
    if config.images:
        if not ccvit.tokenizer:
            raise ValueError("ccvit.tokenizer None with images; expected a fitted centroid tokenizer; name its folder")
        if ccvit.sees == "codebook":
            raise ValueError("ccvit.sees codebook with images; expected pixels; leave it out")
        about = read_tokenizer(folder_of(ccvit.tokenizer, config.storage))
        check_family(about["family"], ccvit.tokenizer)
        patch, size = about["config"]["patch_size"], config.pixels.image_size
        if size % patch:
            raise ValueError(
                f"pixels.image_size {size} with a tokenizer of {patch}x{patch} patches; expected a multiple; set "
                f"{size // patch * patch or patch}"
            )
        given, side = config.pixels.patch_size, unit * patch
        if given not in (side, type(config.pixels).model_fields["patch_size"].default):
            raise ValueError(
                f"pixels.patch_size {given} with patches of {unit}x{unit} centroids of {patch}x{patch} pixels; "
                f"expected {side}, which model.stem_kernel and the tokenizer decide; leave it out"
            )
        return check_centroids(config, (size // patch, size // patch), about["codebook_size"])
    assert tokens is not None  # one of the two is given
    if ccvit.tokenizer:
        raise ValueError("ccvit.tokenizer with dataset; expected none, since the dataset has its own; leave it out")
    check_family(tokens.family, tokens.where)
    if ccvit.sees == "pixels" and config.model.grid_side:
        raise ValueError(
            f"model.grid_side {config.model.grid_side} with ccvit.sees pixels; expected whole grids; leave it out, "
            "and crop by pixels.crop_area"
        )
    return check_centroids(config, model_grid(tokens.grid, config.model.grid_side), tokens.num_codes)


def check_centroids(config: Pretrain, grid: tuple[int, int], num_codes: int) -> tuple[int, int]:
    """The patches of a grid of so many centroids; ValueError for counts, labels or blocks that do not fit CCViT."""
    from seit_ray.augment.mask_counts import patch_grid_of
    from seit_ray.augment.target_numbers import check_soft_labels
    from seit_ray.models.variants import early_layers_of

    ccvit = config.ccvit
    check_soft_labels(ccvit.soft_tau, ccvit.loss)
    check_near(config, num_codes)
    early_layers_of(check_size(config.model).depth, ccvit.early_layers)
    patch_grid = patch_grid_of(grid, config.model.stem_kernel)
    ccvit.settings().counts(patch_grid, on_tokens=bool(config.dataset))
    return patch_grid


def check_near(config: Pretrain, num_codes: int) -> None:
    """ValueError where more nearest codes are asked for than there are others."""
    ccvit = config.ccvit
    how = ccvit.settings().how(on_tokens=bool(config.dataset))
    if ccvit.num_near >= num_codes and (ccvit.soft_tau or how == "near"):
        raise ValueError(f"ccvit.num_near {ccvit.num_near} of {num_codes} codes; expected fewer; lower it")


def check_family(family: str, where: str) -> None:
    """ValueError unless codes are pixels."""
    if family != "centroid":
        raise ValueError(
            f"tokenizer {family} of {where} for objective ccvit; expected a centroid tokenizer, whose codes are "
            "pixels; take a dataset of one, or objective=mtm"
        )


def read_tokenizer(folder: Folder) -> dict[str, Any]:
    """What a tokenizer's folder says of it."""
    from seit_ray.tokenizers.about import read_about

    return read_about(folder)
