"""Top-1, top-5 and per-class accuracy of a fine-tuned run on a token dataset.

seit-ray evaluate dataset=runs/tokens run=runs/classifier
"""

from pipelines.command import run_verb
from pipelines.places import Rows, cluster_rows, dataset_rows, folder_of
from pipelines.progress import silent
from seit_ray.config import Evaluate


def plan(config: Evaluate) -> Rows:
    """What would be evaluated on what."""
    from seit_ray.shards import TokenDataset
    from seit_ray.training.checkpoints import check_same
    from seit_ray.training.exports import read_about
    from seit_ray.training.runs import identity_of

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    dataset.split(config.split)
    check_same(read_about(folder_of(config.run, config.storage), "classifier"), identity_of(dataset), config.run)
    return [*dataset_rows(dataset.folder), ("run", config.run), *cluster_rows(config.cluster, config.workers)]


def evaluate(config: Evaluate, progress=silent) -> Rows:
    """Evaluate and write the figures; returns the table to print."""
    import contextlib
    import json

    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.train_job import run_training
    from seit_ray.storage import split_uri
    from seit_ray.training.runs import evaluate as run_function

    run = folder_of(config.run, config.storage)
    arguments = {
        "dataset": folder_of(config.dataset, config.storage),
        "run": run,
        "split": config.split,
        "batch_size": config.batch_size,
    }
    needs_ray = config.workers.num_workers > 0
    with connected(**config.cluster.model_dump()) if needs_ray else contextlib.nullcontext() as cluster:
        figures = run_training(run_function, arguments, name="evaluate", cluster=cluster, **config.workers.model_dump())
    progress("evaluate", figures["samples"], figures["samples"], "samples")
    output = config.output or run.uri_of(f"evaluate-{config.split}.json")
    folder, name = split_uri(output)
    folder_of(folder, config.storage).write(name, json.dumps(figures, indent=1).encode())
    classes = figures["per_class_top1"]
    worst = min((c for c in classes if classes[c] is not None), key=classes.get)
    return [
        ("run", run.uri),
        (f"{config.split} samples", str(figures["samples"])),
        ("top-1 / top-5", f"{figures['top1']:.2%} / {figures['top5']:.2%}"),
        ("weakest class", f"{worst} {classes[worst]:.1%}"),
        ("figures", output),
    ]


if __name__ == "__main__":
    run_verb("evaluate")
