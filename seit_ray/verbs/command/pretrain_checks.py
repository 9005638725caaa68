"""What must fit before a pre-training begins: keys that go together, the dataset, patches, counts, targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seit_ray.config import Pretrain
from seit_ray.config.methods import STUDENT
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import folder_of
from seit_ray.verbs.command.shape_checks import check_synonyms
from seit_ray.verbs.command.training import check_size
from seit_ray.verbs.command.unread import changed, refuse_unread

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset

UNREAD = {  # objective -> sections that it does not read, on tokens and on images
    "mtm": (("source", "pixels", "ccvit", "dtm"), ()),
    "ccvit": (("source", "masking"), ("masking", "augment")),
    "dtm": (("source", "pixels", "ccvit"), ("masking", "augment", "ccvit")),
}


def morphs(config: Pretrain) -> bool:
    """Whether a loss of morphing is added."""
    weight = config.dtm.weight
    return config.objective == "dtm" or (config.objective == "ccvit" and bool(weight))


def check_pretrain(config: Pretrain, opened: TokenDataset | None = None) -> Folder:
    """The dataset or the images; ValueError, before anything is read at length, for what does not fit.

    opened: the dataset, where it has been opened: a sweep asks for each of its trials.
    """
    named = config.dataset or config.images
    if not named or (config.dataset and config.images):
        raise ValueError(
            f"dataset {config.dataset} and images {config.images}; expected one of them; dataset=FOLDER trains on "
            "tokens, images=FOLDER on pixels"
        )
    if config.images and config.objective == "mtm":
        raise ValueError("images with objective mtm; expected tokens; set dataset, or objective=ccvit or dtm")
    check_sections(config)
    data = folder_of(named, config.storage)
    dataset = opened
    if config.dataset:
        from seit_ray.shards.dataset import TokenDataset

        dataset = opened or TokenDataset(data)
        dataset.split("train")
    check_shape(config, dataset)
    if config.objective == "ccvit":
        check_ccvit(config, dataset)
    if morphs(config):
        check_morphing(config, dataset)
    return data


def check_shape(config: Pretrain, dataset: TokenDataset | None) -> None:
    """ValueError for sizes that do not go together, or patches that do not tile the tokens."""
    from seit_ray.augment.mask_counts import patch_grid_of
    from seit_ray.models.variants import model_grid

    check_size(config.model)
    if dataset is not None:
        patch_grid_of(model_grid(dataset.info.grid, config.model.grid_side), config.model.stem_kernel)
        check_synonyms(config.augment, dataset.info.codebook_size)


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
    refuse_unread(config, ("augment.mixup_alpha", "augment.cutmix_alpha"), "of a pre-training, which has no labels")
    stray = [key for key in STUDENT if changed(config.dtm, key)]
    if stray and morphs(config) and not (config.objective == "dtm" and on_images):
        raise ValueError(f"dtm.{stray[0]} beside another objective; expected none, since it is not read; leave it out")


def check_ccvit(config: Pretrain, dataset: TokenDataset | None) -> None:
    """ValueError when tokenizer, patches, counts or blocks do not fit CCViT."""
    from seit_ray.augment.mask_counts import patch_grid_of
    from seit_ray.models.variants import early_layers_of, model_grid

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
        grid, num_codes = (size // patch, size // patch), about["codebook_size"]
    else:
        assert dataset is not None  # one of the two is given
        if ccvit.tokenizer:
            raise ValueError("ccvit.tokenizer with dataset; expected none, since the dataset has its own; leave it out")
        info = dataset.info
        check_family(info.family, dataset.folder.uri)
        if ccvit.sees == "pixels" and config.model.grid_side:
            raise ValueError(
                f"model.grid_side {config.model.grid_side} with ccvit.sees pixels; expected whole grids; leave it out, "
                "and crop by pixels.crop_area"
            )
        grid, num_codes = model_grid(info.grid, config.model.grid_side), info.codebook_size
    check_near(config, num_codes)
    ccvit.settings().counts(patch_grid_of(grid, unit), on_tokens=bool(config.dataset))
    early_layers_of(depth_of(config), ccvit.early_layers)


def check_near(config: Pretrain, num_codes: int) -> None:
    """ValueError where more nearest codes are asked for than there are others."""
    ccvit = config.ccvit
    how = ccvit.settings().how(on_tokens=bool(config.dataset))
    if ccvit.num_near >= num_codes and (ccvit.soft_tau or how == "near"):
        raise ValueError(f"ccvit.num_near {ccvit.num_near} of {num_codes} codes; expected fewer; lower it")


def depth_of(config: Pretrain) -> int:
    """Blocks of the encoder."""
    from seit_ray.models.variants import build_size

    return build_size(config.model.size, depth=config.model.depth).depth


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


def check_morphing(config: Pretrain, dataset: TokenDataset | None) -> None:
    """ValueError when targets, loss or patches of the morphing do not fit."""
    from seit_ray.augment.mask_counts import check_counts, num_masked_of, patch_grid_of
    from seit_ray.runs.method_checks import check_dtm

    dtm = config.dtm
    on_tokens = bool(config.dataset) and not (config.objective == "ccvit" and config.ccvit.sees == "pixels")
    kind = check_dtm(
        dtm.settings(),
        objective=config.objective,
        on_tokens=on_tokens,
        has_codebook=config.objective == "ccvit" or bool(config.dataset),
        ema_decay=config.loop.ema_decay,
        has_run=bool(dtm.target_run),
        has_dataset=bool(dtm.target_dataset),
        has_weights=bool(dtm.teacher_weights),
    )
    if config.objective == "dtm" and config.images:
        size = config.pixels.image_size
        grid = patch_grid_of((size, size), config.pixels.patch_size)
        check_counts(grid, num_masked_of(grid, dtm.num_masked))
    if dataset is not None and kind == "run":
        from seit_ray.models.about import TARGETS, read_about
        from seit_ray.shards.dataset import identity_of
        from seit_ray.training.identity import check_same

        about = read_about(folder_of(dtm.target_run or "", config.storage), *TARGETS)
        check_same(about, identity_of(dataset), dtm.target_run or "")
    if dataset is not None and kind == "stream":
        check_stream(config, dataset)


def check_stream(config: Pretrain, dataset: TokenDataset) -> None:
    """ValueError unless the second dataset is of as many images, and augmentation leaves places alone."""
    from seit_ray.shards.dataset import TokenDataset

    second = TokenDataset(folder_of(config.dtm.target_dataset or "", config.storage))
    rows = [dataset.split("train").rows, second.split("train").rows]
    if rows[0] != rows[1]:
        raise ValueError(
            f"{rows[1]} rows in split 'train' of {second.folder.uri}; expected the {rows[0]} of {dataset.folder.uri}; "
            "tokenise the same images"
        )
    augment = config.augment
    if augment.random_crop or augment.swap_prob or augment.adapt != "none" or config.model.grid_side:
        raise ValueError(
            "dtm.target stream with augmentation that moves tokens, or model.grid_side; expected none, since the "
            "second stream stays; leave augment.random_crop, swap_prob, adapt and model.grid_side out"
        )
