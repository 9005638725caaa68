"""Top-1, top-5 and per-class accuracy of a fine-tuned run, on a token dataset or on images as they come.

seit-ray evaluate dataset=runs/tokens run=runs/classifier
seit-ray evaluate images=photos/ run=runs/classifier weights=ema
"""

from pipelines.command import run_verb
from pipelines.places import Rows, cluster_rows, dataset_rows, folder_of, listed, manifest_rows, tokenizer_folder
from pipelines.progress import silent
from seit_ray.config import Evaluate

IMAGE_KEYS = {"source", "val_fraction", "seed", "tokenizer", "max_image_pixels", "max_image_mib"}


def plan(config: Evaluate) -> Rows:
    """What would be evaluated on what."""
    check_input(config)
    return [
        *(dataset_plan(config) if config.dataset else images_plan(config)),
        ("run", f"{config.run}, weights {config.weights}"),
        *cluster_rows(config.cluster, config.workers),
    ]


def check_input(config: Evaluate) -> None:
    """ValueError unless there is one thing to evaluate on, and no key that is for the other."""
    if bool(config.dataset) == bool(config.images):
        raise ValueError(
            f"keys dataset {config.dataset!r} and images {config.images!r}; expected one of them; give the token "
            "dataset or the images to evaluate on"
        )
    stray = sorted(config.model_fields_set & IMAGE_KEYS) if config.dataset else []
    if stray:
        raise ValueError(f"key {stray[0]} with dataset; expected it with images only; drop it, or evaluate on images")


def dataset_plan(config: Evaluate) -> Rows:
    """The token dataset, if the run fits it."""
    from seit_ray.shards import TokenDataset
    from seit_ray.training.checkpoints import check_same
    from seit_ray.training.exports import read_about
    from seit_ray.training.inputs import identity_of

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    dataset.split(config.split)
    check_same(read_about(folder_of(config.run, config.storage), "classifier"), identity_of(dataset), config.run)
    return dataset_rows(dataset.folder)


def images_plan(config: Evaluate) -> Rows:
    """The images and what makes them fit, if their labels are of the run."""
    from seit_ray.evaluation.image_classifier import ImageClassifier
    from seit_ray.evaluation.image_runs import label_table

    images, run = folder_of(config.images, config.storage), folder_of(config.run, config.storage)
    classifier = ImageClassifier.load(run, tokenizer=tokenizer_folder(config), weights=config.weights)
    classifier.check()
    rule = {"val_fraction": config.val_fraction, "seed": config.seed, "on_progress": lambda *_: None}
    with listed(images, config.source, **rule) as manifest:
        label_table(manifest, config.split, classifier.class_names, images.uri, run.uri)
        rows = manifest_rows(images, manifest)
    return [*rows, ("seen as", f"{classifier.image_size}x{classifier.image_size} pixels, {classifier.resize}")]


def evaluate(config: Evaluate, progress=silent) -> Rows:
    """Evaluate and write the figures; returns the table to print."""
    import contextlib
    import json

    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.train_job import run_training
    from seit_ray.storage import split_uri

    check_input(config)
    function, arguments = function_of(config)
    needs_ray = config.workers.num_workers != 0
    with connected(**config.cluster.model_dump()) if needs_ray else contextlib.nullcontext() as cluster:
        figures = run_training(
            function,
            arguments,
            name="evaluate",
            cluster=cluster,
            on_progress=lambda done, total, note: progress("evaluate", done, total, note),
            **config.workers.model_dump(),
        )
    if config.dataset:
        progress("evaluate", figures["samples"], figures["samples"], "samples")
    what = [*(["images"] if config.images else []), config.split, *(["ema"] if config.weights == "ema" else [])]
    output = config.output or arguments["run"].uri_of(f"evaluate-{'-'.join(what)}.json")
    folder, name = split_uri(output)
    folder_of(folder, config.storage).write(name, json.dumps(figures, indent=1).encode())
    return summary(config, figures, arguments["run"].uri, output)


def function_of(config: Evaluate):
    """The function that evaluates on tokens or on images, and its arguments."""
    run = folder_of(config.run, config.storage)
    shared = {name: getattr(config, name) for name in ("split", "weights", "batch_size")}
    if config.dataset:
        from seit_ray.training.runs import evaluate as run_function

        return run_function, {"dataset": folder_of(config.dataset, config.storage), "run": run, **shared}
    from seit_ray.evaluation.image_runs import evaluate_images

    return evaluate_images, {
        "images": folder_of(config.images, config.storage),
        "source": config.source.model_dump(),
        "run": run,
        "tokenizer": tokenizer_folder(config),
        "val_fraction": config.val_fraction,
        "seed": config.seed,
        "limits": {"max_bytes": config.max_image_mib << 20, "max_pixels": config.max_image_pixels},
        **shared,
    }


def summary(config: Evaluate, figures: dict, run: str, output: str) -> Rows:
    """The figures as a table."""
    classes = figures["per_class_top1"]
    worst = min((c for c in classes if classes[c] is not None), key=classes.get)
    rows = [("run", run), (f"{config.split} samples", str(figures["samples"]))]
    if "rejected" in figures:
        counts = f"{figures['listed']} listed = {figures['samples']} classified + {len(figures['rejected'])} rejected"
        rows[-1] = (f"{config.split} images", counts)
    return [
        *rows,
        ("top-1 / top-5", f"{figures['top1']:.2%} / {figures['top5']:.2%}"),
        ("weakest class", f"{worst} {classes[worst]:.1%}"),
        ("figures", output),
    ]


if __name__ == "__main__":
    run_verb("evaluate")
