"""Train a classifier of tokens, or of pixels, from a trained run or from scratch; the same run name continues.

seit-ray finetune dataset=runs/tokens init_from=runs/mtm run=classifier
"""

from seit_ray.config import Finetune
from seit_ray.progress import Progress, silent
from seit_ray.verbs.command.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows, source_rows
from seit_ray.verbs.command.training import augment_arguments, loop_rows, run_folder, steps_row, train


def check(config: Finetune) -> Rows:
    """What would be trained, from what, on what, with which resources."""
    check_data(config)
    return [
        *(image_rows(config) if config.images else token_rows(config)),
        ("starts from", (config.init_from or "scratch") + (", what fits" if config.transfer else "")),
        *output_rows(run_folder(config)),
        *cluster_rows(config.cluster, config.workers),
    ]


def check_data(config: Finetune) -> None:
    """ValueError unless exactly one of dataset and images is named, and what goes with it fits."""
    if bool(config.dataset) == bool(config.images):
        raise ValueError(
            f"dataset {config.dataset} and images {config.images}; expected one of them; dataset=FOLDER trains on "
            "tokens, images=FOLDER on pixels"
        )
    if config.images and config.init_from and not config.transfer:
        raise ValueError("images with init_from; expected transfer=true, since that run was trained on tokens; set it")
    if config.transfer and not config.init_from:
        raise ValueError("transfer without init_from; expected a finished run to start from; name one")
    if config.dataset:
        check_tokens(config)
    elif config.init_from:
        check_start(config)


def check_tokens(config: Finetune) -> None:
    """ValueError when the token dataset has no classes, or is not of the tokens of the run to start from."""
    from seit_ray.shards.dataset import TokenDataset, check_classes, identity_of
    from seit_ray.training.identity import check_same

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    dataset.split("train")
    check_classes(dataset.info.class_names, dataset.folder.uri)
    if config.init_from:
        about = check_start(config)
        if not config.transfer:
            check_same(about, identity_of(dataset), config.init_from)


def check_start(config: Finetune) -> dict:
    """model.json of the run to start from; ValueError when it is none that a classifier can start from."""
    from seit_ray.models.about import SOURCES, read_about

    return read_about(folder_of(config.init_from, config.storage), *SOURCES)


def token_rows(config: Finetune) -> Rows:
    """The token dataset, the model and its steps."""
    return [*dataset_rows(folder_of(config.dataset, config.storage)), *loop_rows(config)]


def image_rows(config: Finetune) -> Rows:
    """The images, the model and its steps."""
    pixels = config.pixels
    images = folder_of(config.images, config.storage)
    rows = source_rows(images, config.source, val_fraction=pixels.val_fraction, seed=config.loop.seed)
    sizes = f"{pixels.image_size}x{pixels.image_size}, patches of {pixels.patch_size}x{pixels.patch_size}"
    return [*rows, ("pixels", sizes), steps_row(config, "steps")]


def finetune(config: Finetune, progress: Progress = silent) -> Rows:
    """Train; returns the table to print."""
    check_data(config)
    from seit_ray.runs.finetune import finetune as run_function

    run = run_folder(config)
    metrics = train(config, "finetune", run_function, own_arguments(config) | data_arguments(config), run, progress)
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    if "val_top1" in metrics:
        rows.append(("val top-1 / top-5", f"{metrics['val_top1']:.2%} / {metrics['val_top5']:.2%}"))
    if "ema_val_top1" in metrics:
        rows.append(("EMA val top-1", f"{metrics['ema_val_top1']:.2%}"))
    return [*rows, ("next", f"seit-ray predict images=FOLDER run={run.uri} output=predictions.csv")]


def data_arguments(config: Finetune) -> dict:
    """What it is trained on."""
    if config.dataset:
        return {"dataset": folder_of(config.dataset, config.storage)}
    sections = {name: getattr(config, name).settings() for name in ("source", "pixels")}
    return {"images": folder_of(config.images, config.storage), **sections}


def own_arguments(config: Finetune) -> dict:
    """What a fine-tuning run takes beside what all runs take, and its data."""
    return {
        "init_from": folder_of(config.init_from, config.storage) if config.init_from else None,
        "transfer": config.transfer,
        "label_smoothing": config.label_smoothing,
        **augment_arguments(config),
    }
