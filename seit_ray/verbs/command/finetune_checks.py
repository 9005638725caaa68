"""What must fit before a fine-tuning begins: one input, its tokens or patches, the run to start from."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from seit_ray.config import Finetune
from seit_ray.models.about import check_weights
from seit_ray.models.variants import taken_blocks
from seit_ray.storage import Folder
from seit_ray.training.identity import check_same
from seit_ray.verbs.command.hold_out import refuse_seen_images, refuse_seen_tokens
from seit_ray.verbs.command.known_tokens import KnownTokens, check_kept_of, check_start_sizes
from seit_ray.verbs.command.places import folder_of
from seit_ray.verbs.command.shape_checks import check_augment, check_pixel_classifier, check_token_classifier
from seit_ray.verbs.command.training import check_size
from seit_ray.verbs.command.unread import check_finetune_keys

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset


def check_data(
    config: Finetune,
    opened: TokenDataset | None = None,
    to_be: dict[str, Any] | None = None,
    searched: Collection[str] = (),
) -> Folder:
    """The dataset or the images; ValueError unless exactly one is named, and what goes with it fits.

    A sweep asks for each of its trials. opened: the dataset, where it has been opened; to_be: model.json of a run to
    start from that is yet to be made; searched: keys of the space.
    """
    named = config.dataset or config.images
    if not named or (config.dataset and config.images):
        raise ValueError(
            f"dataset {config.dataset} and images {config.images}; expected one of them; dataset=FOLDER trains on "
            "tokens, images=FOLDER on pixels"
        )
    if config.transfer and not config.init_from:
        raise ValueError("transfer without init_from; expected a finished run to start from; name one")
    check_finetune_keys(config, starts=bool(to_be or config.init_from), searched=searched)
    check_size(config.model)
    data = folder_of(named, config.storage)
    start = folder_of(config.init_from, config.storage) if config.init_from else None
    about = check_start(start) if start else to_be
    if config.dataset:
        check_tokens(config, data, start, about, opened)
    else:
        check_pixels(config, data, start, about)
    if start:
        check_weights(start, config.init_weights)
    return data


def check_pixels(config: Finetune, images: Folder, start: Folder | None, about: dict[str, Any] | None) -> None:
    """ValueError where patches, label maps or the run to start from, with this model.json, do not fit."""
    check_pixel_classifier(config.model, config.pixels, check_encoder(config, about))
    if config.task == "segment":
        check_map_source(config)
        taken_blocks(check_size(config.model).depth, config.segment.blocks)
    if start and about:
        if not config.transfer and "image_size" not in about:
            raise ValueError(
                "images with init_from; expected transfer=true, since that run was trained on tokens; set it"
            )
        refuse_seen_images(start, images, config.pixels.val_fraction, config.pixels.seed, "pixels.")
        if not config.transfer:
            check_same(about, pixel_identity(config), start.uri)
        check_start_sizes(config, about, start.uri, None)


def check_map_source(config: Finetune) -> None:
    """ValueError unless the images have label maps, and all of them is seen."""
    from seit_ray.images.sources.maps import check_resize

    source = config.source.settings()
    if not source.has_maps:
        raise ValueError(
            "task=segment with images and without source.masks; expected the folder of their label maps; set "
            "source.masks, or source.mask_column of tables and tars, source.class_names and, where it is not 255, "
            "source.void"
        )
    check_resize(source, config.pixels.resize)


def check_encoder(config: Finetune, start: dict[str, Any] | None) -> str:
    """Which blocks; ValueError when they are not those of the run to start from, or read what they cannot."""
    from seit_ray.models.about import encoder_of

    found = encoder_of(start) if start else None
    wanted = config.model.encoder
    if wanted and found and wanted != found:
        raise ValueError(f"model.encoder {wanted} with a run of {found}; expected {found}; leave model.encoder out")
    if config.dataset and (wanted or found) == "beit" and config.model.inputs != "codebook":
        raise ValueError(
            f"model.inputs {config.model.inputs} of encoder beit; expected codebook, whose rows are pixels; set "
            "model.inputs=codebook"
        )
    return wanted or found or "vit"


def check_numbers(
    config: Finetune, tokens: KnownTokens, start: dict[str, Any] | None, where: str | None = None
) -> None:
    """ValueError for sizes and augmentation that do not fit the tokens, which may be yet to be made, or the start.

    start: model.json of the run to start from, if there is one; it lies in `where`, or is yet to be made.
    """
    from seit_ray.augment.numbers import check_in_place

    size = check_size(config.model)
    check_token_classifier(config.model, tokens, check_encoder(config, start))
    check_augment(config.augment, tokens, config.model.grid_side, config.storage)
    if config.task == "segment":
        check_in_place(config.augment.settings(), adapts=config.augment.adapt != "none")
        taken_blocks(size.depth, config.segment.blocks)
    if start:
        check_start_sizes(config, start, where, tokens)


def check_tokens(
    config: Finetune, folder: Folder, start: Folder | None, about: dict[str, Any] | None, opened: TokenDataset | None
) -> None:
    """ValueError when the token dataset has no classes, or is not of the tokens of the run to start from."""
    from seit_ray.shards.dataset import TokenDataset, check_classes, identity_of
    from seit_ray.shards.split_checks import check_labels, check_rows

    dataset = opened or TokenDataset(folder)
    check_rows(dataset, "train")
    if start and about and not config.transfer:
        if "image_size" in about and "grid" not in about:
            raise ValueError(
                "dataset with init_from; expected transfer=true, since that run was trained on images; set it"
            )
        check_same(about, identity_of(dataset), start.uri)
    check_numbers(config, KnownTokens.of(dataset), about, start.uri if start else None)
    if config.task == "segment":
        check_map_dataset(config, dataset)
    else:
        check_classes(dataset.info.class_names, dataset.folder.uri)
        for split in ("train", "val"):
            if split in dataset.info.splits:
                check_labels(dataset, split)
    check_kept_of(config.loop.keep_best, dataset)
    if start:
        refuse_seen_tokens(start, folder)


def check_map_dataset(config: Finetune, dataset: TokenDataset) -> None:
    """ValueError when a dataset has no label maps, or windows would leave tokens out."""
    from seit_ray.models.variants import model_grid
    from seit_ray.shards.dataset import check_maps

    check_maps(dataset)
    window, stride = min(model_grid(dataset.info.grid, config.model.grid_side)), config.segment.stride
    if stride is not None and stride > window:
        raise ValueError(
            f"segment.stride {stride} of windows of {window} tokens a side; expected at most {window}, so that nothing "
            "is left out; lower it"
        )


def pixel_identity(config: Finetune) -> dict[str, Any]:
    """What a run and the images that it is given must agree on."""
    return {name: getattr(config.pixels, name) for name in ("image_size", "patch_size", "resize")}


def check_start(run: Folder) -> dict[str, Any]:
    """model.json of the run to start from; ValueError when it is none that a classifier can start from."""
    from seit_ray.models.about import SOURCES, read_about

    return read_about(run, *SOURCES)
