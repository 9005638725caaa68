"""Train a classifier or segmenter of tokens, or of pixels, from a trained run or from scratch; the same name continues.

seit-ray finetune dataset=runs/tokens init_from=runs/mtm run=classifier
seit-ray finetune task=segment dataset=runs/street-tokens init_from=runs/mtm run=segmenter
"""

from __future__ import annotations

import shlex
from typing import Any

from seit_ray.config import Finetune
from seit_ray.config.loading import flow
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.verbs.command.finetune_checks import check_data
from seit_ray.verbs.command.image_checks import training_rows
from seit_ray.verbs.command.older_records import as_recorded
from seit_ray.verbs.command.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows
from seit_ray.verbs.command.training import (
    augment_arguments,
    check_run,
    loop_rows,
    replay_rows,
    run_folder,
    steps_row,
    train,
)


def check(config: Finetune) -> Rows:
    """What would be trained, from what, on what, with which resources."""
    data = check_data(as_recorded(config, run_folder(config), "finetune"))
    check_run(config, "finetune", data)
    return [
        *(image_rows(config, data) if config.images else [*dataset_rows(data), *loop_rows(config, data)]),
        ("starts from", (config.init_from or "scratch") + (", what fits" if config.transfer else "")),
        *output_rows(run_folder(config)),
        *cluster_rows(config.cluster, config.workers),
    ]


def image_rows(config: Finetune, images: Folder) -> Rows:
    """The images, the model and its steps."""
    pixels = config.pixels
    split = {name: getattr(pixels, name) for name in ("val_fraction", "seed", "max_images")}
    rows = training_rows(images, config.source, config.loop, need_labels=config.task == "classify", **split)
    sizes = f"{pixels.image_size}x{pixels.image_size}, patches of {pixels.patch_size}x{pixels.patch_size}"
    return [*rows, ("pixels", sizes), steps_row(config, "steps")]


def finetune(config: Finetune, progress: Progress = silent) -> Rows:
    """Train; returns the table to print."""
    data = check_data(as_recorded(config, run_folder(config), "finetune"))
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
