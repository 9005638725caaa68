"""Train a classifier or segmenter of tokens, or of pixels, from a trained run or from scratch; the same name continues.

seit-ray finetune dataset=runs/tokens init_from=runs/mtm run=classifier
seit-ray finetune task=segment dataset=runs/street-tokens init_from=runs/mtm run=segmenter
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from seit_ray.config import Finetune
from seit_ray.config.loading import flow
from seit_ray.models.about import check_weights
from seit_ray.models.variants import taken_blocks
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.training.identity import check_same
from seit_ray.verbs.command.hold_out import refuse_seen_images, refuse_seen_tokens
from seit_ray.verbs.command.known_tokens import KnownTokens, check_start_sizes
from seit_ray.verbs.command.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows
from seit_ray.verbs.command.shape_checks import check_augment, check_pixel_classifier, check_token_classifier
from seit_ray.verbs.command.training import (
    augment_arguments,
    check_run,
    check_size,
    loop_rows,
    replay_rows,
    run_folder,
    steps_row,
    train,
    training_rows,
)
from seit_ray.verbs.command.unread import check_finetune_keys

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset


def check(config: Finetune) -> Rows:
    """What would be trained, from what, on what, with which resources."""
    data = check_data(config)
    check_run(config, "finetune", data)
    return [
        *(image_rows(config, data) if config.images else [*dataset_rows(data), *loop_rows(config, data)]),
        ("starts from", (config.init_from or "scratch") + (", what fits" if config.transfer else "")),
        *output_rows(run_folder(config)),
        *cluster_rows(config.cluster, config.workers),
    ]


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


def check_numbers(config: Finetune, tokens: KnownTokens, start: dict[str, Any] | None, where: str) -> None:
    """ValueError for sizes and augmentation that do not fit the tokens, which may be yet to be made, or the start.

    start: model.json of the run to start from, which lies in `where`, if there is one.
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

    dataset = opened or TokenDataset(folder)
    dataset.split("train")
    if start and about and not config.transfer:
        check_same(about, identity_of(dataset), start.uri)
    check_numbers(config, KnownTokens.of(dataset), about, start.uri if start else "the pre-training before it")
    if config.task == "segment":
        check_map_dataset(config, dataset)
    else:
        check_classes(dataset.info.class_names, dataset.folder.uri)
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


def image_rows(config: Finetune, images: Folder) -> Rows:
    """The images, the model and its steps."""
    pixels = config.pixels
    rows = training_rows(config, images)
    sizes = f"{pixels.image_size}x{pixels.image_size}, patches of {pixels.patch_size}x{pixels.patch_size}"
    return [*rows, ("pixels", sizes), steps_row(config, "steps")]


def finetune(config: Finetune, progress: Progress = silent) -> Rows:
    """Train; returns the table to print."""
    data = check_data(config)
    import pkgutil

    run_function, run = pkgutil.resolve_name(run_name(config)), run_folder(config)
    arguments = own_arguments(config) | data_arguments(config, data)
    metrics = train(config, "finetune", run_function, arguments, run, progress, sources=[data])
    if config.replay:
        return replay_rows(metrics)
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    if config.task == "segment":
        return [*rows, *segment_rows(metrics), ("next", f"seit-ray evaluate {given(config)} run={run.uri}")]
    if "val_top1" in metrics:
        rows.append(("val top-1 / top-5", f"{metrics['val_top1']:.2%} / {metrics['val_top5']:.2%}"))
    if "ema_val_top1" in metrics:
        rows.append(("EMA val top-1", f"{metrics['ema_val_top1']:.2%}"))
    return [*rows, ("next", f"seit-ray predict images=FOLDER run={run.uri} output=predictions.csv")]


def run_name(config: Finetune) -> str:
    """The function of `runs` that trains it, as module:name."""
    return "seit_ray.runs.segment:segment" if config.task == "segment" else "seit_ray.runs.finetune:finetune"


def given(config: Finetune) -> str:
    """The keys by which an evaluation finds the data, as one types them."""
    if config.dataset:
        return shlex.join([f"dataset={config.dataset}"])
    about = config.source.model_dump(mode="json", exclude_defaults=True, exclude=set(config.source.undecided))
    held_out = {key: value for key in ("val_fraction", "seed") if (value := getattr(config.pixels, key))}
    keys = {f"source.{key}": value for key, value in about.items()} | held_out
    return shlex.join([f"images={config.images}", *(f"{key}={flow(value)}" for key, value in keys.items())])


def segment_rows(metrics: dict[str, Any]) -> Rows:
    """What the val split says of a segmenter."""
    rows: Rows = []
    for before, title in (("", ""), ("ema_", "EMA ")):
        if f"{before}val_miou" in metrics:
            miou, mean, pixel = (metrics[f"{before}val_{name}"] for name in ("miou", "mean_accuracy", "pixel_accuracy"))
            rows.append((f"{title}val mIoU", f"{miou:.2%}; mean accuracy {mean:.2%}, pixel accuracy {pixel:.2%}"))
    return rows


def data_arguments(config: Finetune, data: Folder) -> dict[str, Any]:
    """What it is trained on."""
    if config.dataset:
        return {"dataset": data}
    return {"images": data, "source": config.source.settings(), "pixels": config.pixels.settings()}


def own_arguments(config: Finetune) -> dict[str, Any]:
    """What a fine-tuning run takes beside what all runs take, and its data."""
    return {
        "init_from": folder_of(config.init_from, config.storage) if config.init_from else None,
        "init_weights": config.init_weights,
        "transfer": config.transfer,
        **({"segment": config.segment.settings()} if config.task == "segment" else smoothing(config)),
        **augment_arguments(config),
    }


def smoothing(config: Finetune) -> dict[str, Any]:
    """What a classifier alone takes."""
    return {"label_smoothing": config.label_smoothing}
