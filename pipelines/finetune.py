"""Train a classifier of tokens, or of pixels, from a trained run or from scratch; the same run name continues.

seit-ray finetune dataset=runs/tokens init_from=runs/mtm run=classifier
"""

from pipelines.command import run_verb
from pipelines.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows, source_rows
from pipelines.pretrain import augment_arguments, loop_rows, run_on_workers, steps_row, train
from pipelines.progress import silent
from seit_ray.config import Finetune


def plan(config: Finetune) -> Rows:
    """What would be trained, from what, on what, with which resources."""
    check_data(config)
    return [
        *(image_rows(config) if config.images else token_rows(config)),
        ("starts from", (config.init_from or "scratch") + (", what fits" if config.transfer else "")),
        *output_rows(folder_of(config.output, config.storage).join(config.run)),
        *cluster_rows(config.cluster, config.workers),
    ]


def check_data(config: Finetune) -> None:
    """ValueError unless exactly one of dataset and images is named, and what goes with it."""
    if bool(config.dataset) == bool(config.images):
        raise ValueError(
            f"dataset {config.dataset} and images {config.images}; expected one of them; dataset=FOLDER trains on "
            "tokens, images=FOLDER on pixels"
        )
    if config.images and config.init_from and not config.transfer:
        raise ValueError("images with init_from; expected transfer=true, since that run was trained on tokens; set it")
    if config.transfer and not config.init_from:
        raise ValueError("transfer without init_from; expected a finished run to start from; name one")


def token_rows(config: Finetune) -> Rows:
    """The token dataset, the model and its steps."""
    from seit_ray.shards import TokenDataset
    from seit_ray.training.checkpoints import check_same
    from seit_ray.training.exports import read_about
    from seit_ray.training.inputs import check_classes, identity_of
    from seit_ray.training.runs import SOURCES

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    check_classes(dataset.info.class_names, dataset.folder.uri)
    if config.init_from:
        about = read_about(folder_of(config.init_from, config.storage), *SOURCES)
        if not config.transfer:
            check_same(about, identity_of(dataset), config.init_from)
    return [*dataset_rows(dataset.folder), *loop_rows(config)]


def image_rows(config: Finetune) -> Rows:
    """The images, the model and its steps."""
    from pipelines.places import listed
    from seit_ray.training.exports import read_about
    from seit_ray.training.runs import SOURCES

    images, pixels = folder_of(config.images, config.storage), config.pixels
    options = {"val_fraction": pixels.val_fraction, "seed": config.loop.seed}
    if config.init_from:
        read_about(folder_of(config.init_from, config.storage), *SOURCES)
    with listed(images, config.source, on_progress=lambda *_: None, **options) as manifest:
        split = manifest.splits.get("train")
        number = min(split.num_images, pixels.max_images or split.num_images) if split else 0
    return [
        *source_rows(images, config.source, **options),
        ("pixels", f"{pixels.image_size}x{pixels.image_size}, patches of {pixels.patch_size}x{pixels.patch_size}"),
        steps_row(config, number),
    ]


def finetune(config: Finetune, progress=silent) -> Rows:
    """Train; returns the table to print."""
    from seit_ray.training.runs import finetune as run_function

    check_data(config)
    more = own_arguments(config)
    if config.images:
        more |= {name: getattr(config, name).model_dump() for name in ("source", "pixels")}
        more["images"] = folder_of(config.images, config.storage)
        metrics, run = run_on_workers(config, "finetune", run_function, more, progress)
    else:
        metrics, run = train(config, "finetune", run_function, more, progress)
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    if "val_top1" in metrics:
        rows.append(("val top-1 / top-5", f"{metrics['val_top1']:.2%} / {metrics['val_top5']:.2%}"))
    if "ema_val_top1" in metrics:
        rows.append(("EMA val top-1", f"{metrics['ema_val_top1']:.2%}"))
    return rows


def own_arguments(config: Finetune) -> dict:
    """What a fine-tuning run takes beside what all runs take, and its data."""
    return {
        "init_from": folder_of(config.init_from, config.storage) if config.init_from else None,
        "transfer": config.transfer,
        "label_smoothing": config.label_smoothing,
        **augment_arguments(config),
    }


if __name__ == "__main__":
    run_verb("finetune")
