"""Accuracies of a fine-tuned run, or mean IoU and the IoU of each class, on a token dataset or on images as they come.

seit-ray evaluate dataset=runs/tokens run=runs/classifier
seit-ray evaluate images=photos/ run=runs/classifier weights=ema
seit-ray evaluate images=photos/ run=runs/classifier corruptions=imagenet_c
"""

import json
from typing import Any

from seit_ray.config import Evaluate
from seit_ray.progress import Progress, silent
from seit_ray.report.shares import with_error
from seit_ray.storage import Folder
from seit_ray.verbs.command.figures_file import evaluated_what, figures_place, refuse_other_figures
from seit_ray.verbs.command.hold_out import refuse_seen_tokens, with_hold_out
from seit_ray.verbs.command.places import (
    Rows,
    cluster_rows,
    dataset_rows,
    folder_of,
    looked_at,
    manifest_rows,
    tokenizer_folder,
)
from seit_ray.verbs.command.robustness import (
    check_keys,
    check_units_of,
    evaluate_robustness,
    is_robustness,
    refuse_other_baseline,
    robustness_plan,
)
from seit_ray.verbs.command.robustness import kind_of as robustness_kind
from seit_ray.verbs.command.segments import check_segments, evaluate_report, is_segmenter
from seit_ray.verbs.command.training import Run, run_on_workers
from seit_ray.verbs.command.unread import refuse_unread

IMAGE_KEYS = ("source", "val_fraction", "seed", "tokenizer", "max_image_pixels", "max_image_mib", "classes")


def check(config: Evaluate) -> Rows:
    """What would be evaluated on what."""
    data = check_input(config)
    config = config if config.dataset else with_hold_out(config)
    rows = dataset_rows_of(config, data) if config.dataset else images_rows(config, data)
    refuse_other_figures(kind_of_figures(config), config)
    return [
        *rows,
        ("run", f"{config.run}, weights {config.weights}"),
        *robustness_plan(config),
        *cluster_rows(config.cluster, config.workers),
    ]


def check_input(config: Evaluate) -> Folder:
    """What to evaluate on; ValueError unless there is one such thing, and no key that is for the other."""
    named = config.dataset or config.images
    if not named or (config.dataset and config.images):
        raise ValueError(
            f"keys dataset {config.dataset!r} and images {config.images!r}; expected one of them; give the token "
            "dataset or the images to evaluate on"
        )
    if config.dataset:
        refuse_unread(config, IMAGE_KEYS, "with dataset", "drop it, or evaluate on images")
    check_keys(config)
    return folder_of(named, config.storage)


def dataset_rows_of(config: Evaluate, folder: Folder) -> Rows:
    """The token dataset, if the run fits it."""
    from seit_ray.models.about import CLASSIFIERS, check_class_names, check_void, check_weights, read_about
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.dataset import check_maps, identity_of
    from seit_ray.training.identity import check_same

    dataset = TokenDataset(folder)
    dataset.split(config.split)
    run = folder_of(config.run, config.storage)
    about = read_about(run, *CLASSIFIERS)
    check_same(about, identity_of(dataset), config.run)
    check_weights(run, config.weights)
    check_class_names(dataset.info.class_names, about, dataset.folder.uri, run.uri)
    if config.split == "val":
        refuse_seen_tokens(run, folder)
    if about["kind"] == "segmenter":
        check_segments(config)
        check_maps(dataset)
        check_void(dataset.info.void, about, dataset.folder.uri, run.uri)
    elif config.occlusion or config.shuffle:
        check_units_of(config, about, run)
    if config.mirror and dataset.info.family != "centroid":
        raise ValueError(
            f"mirror with tokens of a {dataset.info.family} tokenizer in {folder.uri}; expected those of a centroid "
            "tokenizer, whose codes are pixels; evaluate on images, or leave mirror out"
        )
    return dataset_rows(dataset.folder)


def images_rows(config: Evaluate, images: Folder) -> Rows:
    """The images and what makes them fit, if their labels are of the run."""
    from seit_ray.evaluation.image_run import read_image_run
    from seit_ray.images.labels import label_table
    from seit_ray.models.about import check_void, read_about

    run = folder_of(config.run, config.storage)
    found = read_image_run(run, tokenizer=tokenizer_folder(config), weights=config.weights)
    looked = looked_at(images, config.source, val_fraction=config.val_fraction or 0.0, seed=config.seed or 0)
    with looked as (manifest, is_whole):
        if found.kind == "segmenter":
            check_segments(config)
            check_void(manifest.void, read_about(run, "segmenter"), images.uri, run.uri)
        elif is_whole:
            label_table(manifest, config.split, found.class_names, images.uri, run.uri)
            refuse_other_baseline(config, manifest)
        rows = manifest_rows(images, manifest, is_whole)
    return [*rows, ("seen as", found.words())]


def evaluate(config: Evaluate, progress: Progress = silent) -> Rows:
    """Evaluate and write the figures; returns the table to print."""
    data = check_input(config)
    config = config if config.dataset else with_hold_out(config)
    check_run(config, data)
    refuse_other_figures(kind_of_figures(config), config)
    function, arguments = function_of(config, data)
    if is_segmenter(config):
        return evaluate_report(config, arguments, progress)
    if is_robustness(config):
        return evaluate_robustness(config, arguments, progress)
    figures = run_on_workers(config, function, arguments, "evaluate", progress)
    if config.dataset:
        progress("evaluate", figures["samples"], figures["samples"], "samples")
    folder, name = figures_place("evaluate", config)
    folder.write(name, json.dumps({**evaluated_what(config), **figures}, indent=1).encode())
    return summary(config, figures, arguments["run"].uri, folder.uri_of(name))


def kind_of_figures(config: Evaluate) -> str:
    """By which the file of the figures is called."""
    if is_segmenter(config):
        return "segments"
    return robustness_kind(config) if is_robustness(config) else "evaluate"


def check_run(config: Evaluate, data: Folder) -> None:
    """ValueError for the mistakes that show without the model: told before torch, which takes seconds, is imported."""
    run = folder_of(config.run, config.storage)
    if config.dataset:
        dataset_rows_of(config, data)
        return
    from seit_ray.evaluation.image_run import read_image_run

    if read_image_run(run, tokenizer=tokenizer_folder(config), weights=config.weights).kind == "segmenter":
        check_segments(config)
    data.check_readable()


def function_of(config: Evaluate, data: Folder) -> tuple[Run, dict[str, Any]]:
    """The function that evaluates on tokens or on images, and its arguments."""
    run = folder_of(config.run, config.storage)
    shared = {name: getattr(config, name) for name in ("split", "weights", "batch_size")}
    if config.mirror:
        shared["mirror"] = True
    if config.dataset:
        from seit_ray.runs.evaluate_tokens import evaluate_tokens as run_function

        return run_function, {"dataset": data, "run": run, **shared}
    from seit_ray.runs.evaluate_images import evaluate_images

    return evaluate_images, {
        "images": data,
        "source": config.source.settings(),
        "run": run,
        "tokenizer": tokenizer_folder(config),
        "val_fraction": config.val_fraction,
        "seed": config.seed,
        "max_bytes": config.max_image_mib << 20,
        "max_pixels": config.max_image_pixels,
        "classes": config.classes,
        **shared,
    }


def summary(config: Evaluate, figures: dict[str, Any], run: str, output: str) -> Rows:
    """The figures as a table."""
    classes = figures["per_class_top1"]
    worst = min((c for c in classes if classes[c] is not None), key=classes.get)
    rows = [("run", run), (f"{config.split} samples", str(figures["samples"]))]
    if "rejected" in figures:
        counts = f"{figures['listed']} listed = {figures['samples']} classified + {len(figures['rejected'])} rejected"
        rows[-1] = (f"{config.split} images", counts)
    return [
        *rows,
        *top_rows(figures),
        ("weakest class", f"{worst} {classes[worst]:.1%}"),
        ("figures", output),
    ]


def top_rows(figures: dict[str, Any]) -> Rows:
    """Top-1 with its error, and top-5, of figures, and of those with mirror images."""
    both = {"top-1 / top-5": figures, "with mirror images": figures.get("mirrored")}
    return [
        (name, f"{with_error(each['top1'], each.get('standard_error'))} / {each['top5']:.2%}")
        for name, each in both.items()
        if each
    ]
