"""Pre-train by masked token modelling (SeiT++); the same run name continues.

seit-ray pretrain --config pipelines/configs/pretrain_base_in1k_400e.yaml dataset=s3://bucket/tokens run=mtm-b
"""

from pipelines.command import run_verb
from pipelines.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows
from pipelines.progress import silent
from seit_ray.config import Finetune, Pretrain, Training, Verb


def plan(config: Pretrain) -> Rows:
    """What would be trained, on what, with which resources."""
    return [
        *dataset_rows(folder_of(config.dataset, config.storage)),
        *loop_rows(config),
        *output_rows(folder_of(config.output, config.storage).join(config.run)),
        *cluster_rows(config.cluster, config.workers),
    ]


def loop_rows(config: Training) -> Rows:
    """Model, steps and peak rate."""
    from seit_ray.shards import TokenDataset
    from seit_ray.training.inputs import model_grid

    dataset, model = TokenDataset(folder_of(config.dataset, config.storage)), config.model
    grid = model_grid(dataset.info.grid, model.grid_side)
    return [
        ("model", f"{model.size}, stem {model.stem_kernel}x{model.stem_kernel}, sees {grid[0]}x{grid[1]} tokens"),
        steps_row(config, dataset.split("train").rows),
    ]


def steps_row(config: Training, num_samples: int) -> tuple[str, str]:
    """How many steps of how many samples, and the highest rate."""
    from seit_ray.batches import num_steps
    from seit_ray.training.schedule import peak_lr

    loop, optimizer = config.loop, config.optimizer
    steps = num_steps(num_samples, loop.global_batch_size, loop.epochs)
    names = ("lr", "blr", "lr_rule")
    peak = peak_lr(global_batch_size=loop.global_batch_size, **{k: getattr(optimizer, k) for k in names})
    return ("steps", f"{steps} of {loop.global_batch_size} samples, {loop.epochs} epochs, peak lr {peak:.2e}")


def pretrain(config: Pretrain, progress=silent) -> Rows:
    """Train; returns the table to print."""
    from seit_ray.training.runs import pretrain as run_function

    metrics, run = train(config, "pretrain", run_function, own_arguments(config), progress)
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    if "val_loss" in metrics:
        rows.append(("val loss", f"{metrics['val_loss']:.4f}"))
        rows.append(("val accuracy of masked tokens", f"{metrics['val_masked_accuracy']:.2%}"))
    for method in ("linear", "knn"):
        if f"probe_{method}_top1" in metrics:
            rows.append((f"{method} probe, top-1", f"{metrics[f'probe_{method}_top1']:.2%}"))
    return rows


def own_arguments(config: Pretrain) -> dict:
    """What a pre-training run takes beside what all runs take."""
    return {"masking": config.masking.model_dump(), "probe": config.probe.model_dump(), **augment_arguments(config)}


def augment_arguments(config: Pretrain | Finetune) -> dict:
    """The augment section for a run, and the folder of the run that it names."""
    settings = config.augment.model_dump()
    adapt_run = settings.pop("adapt_run")
    return {"augment": settings, "adapt_run": folder_of(adapt_run, config.storage) if adapt_run else None}


def train(config: Training, verb: str, function, more: dict, progress):
    """What both training verbs do: check, connect, record, run; (metrics, run folder)."""
    from seit_ray.shards import TokenDataset

    dataset = folder_of(config.dataset, config.storage)
    TokenDataset(dataset).split("train")
    return run_on_workers(config, verb, function, {"dataset": dataset, **more}, progress)


def run_on_workers(config: Verb, verb: str, function, more: dict, progress, run=None):
    """Record a run and train it where `workers` says, in `run` or the folder that output and run name together.

    Returns (metrics, run folder).
    """
    import contextlib

    from pipelines.record import write_record
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.train_job import run_training

    run = run or folder_of(config.output, config.storage).join(config.run)
    name = run.uri.rstrip("/").rpartition("/")[2]
    run.check_writable()
    write_record(run, verb, config)
    arguments = {"run": run, **shared_arguments(config), **more}
    workers = config.workers
    needs_ray = workers.num_workers != 0
    with connected(**config.cluster.model_dump()) if needs_ray else contextlib.nullcontext() as cluster:
        metrics = run_training(
            function,
            arguments,
            name=name,
            cluster=cluster,
            on_progress=lambda done, total, note: progress(name, done, total, note),
            **workers.model_dump(),
        )
    return metrics, run


def shared_arguments(config: Verb) -> dict:
    """The sections that all runs take, as far as a verb has them."""
    sections = [name for name in ("model", "loop", "optimizer") if hasattr(config, name)]
    return {name: getattr(config, name).model_dump() for name in sections}


if __name__ == "__main__":
    run_verb("pretrain")
