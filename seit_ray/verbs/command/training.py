"""What the verbs that train share: rows of their check, arguments of their runs, and where they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seit_ray.config import Augment, Training, Verb, Workers
from seit_ray.progress import Progress
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, locked
from seit_ray.verbs.command.places import Rows, folder_of

Run = Callable[..., dict[str, Any]]  # one of `runs`


def run_folder(config: Training) -> Folder:
    """The folder that output and run name together."""
    return folder_of(config.output, config.storage).join(config.run)


def loop_rows(config: Training) -> Rows:
    """Model, steps and peak rate."""
    from seit_ray.batches.sampler import num_steps
    from seit_ray.models.variants import model_grid
    from seit_ray.shards.dataset import TokenDataset

    dataset, model = TokenDataset(folder_of(config.dataset, config.storage)), config.model
    grid = model_grid(dataset.info.grid, model.grid_side)
    stem = f"stem {model.stem_kernel}x{model.stem_kernel}, sees {grid[0]}x{grid[1]} tokens"
    loop, num_samples = config.loop, dataset.split("train").rows
    steps = num_steps(num_samples, loop.global_batch_size, loop.epochs)
    return [("model", f"{model.size}, {stem}"), steps_row(config, str(steps))]


def steps_row(config: Training, steps: str) -> tuple[str, str]:
    """How many steps of how many samples, and the highest rate."""
    from seit_ray.training.schedule import peak_lr

    loop, optimizer = config.loop, config.optimizer
    names = ("lr", "blr", "lr_rule")
    peak = peak_lr(global_batch_size=loop.global_batch_size, **{k: getattr(optimizer, k) for k in names})
    return ("steps", f"{steps} of {loop.global_batch_size} samples, {loop.epochs} epochs, peak lr {peak:.2e}")


def shared_arguments(config: Verb) -> dict[str, Any]:
    """The settings that all runs take, as far as a verb has them."""
    sections = [name for name in ("model", "loop", "optimizer") if hasattr(config, name)]
    return {name: getattr(config, name).settings() for name in sections}


def augment_arguments(config: Verb) -> dict[str, Any]:
    """The augment section for a run, and the folder of the run that it names."""
    augment: Augment = config.augment
    adapt_run = folder_of(augment.adapt_run, config.storage) if augment.adapt_run else None
    return {"augment": augment.settings(), "adapt_run": adapt_run}


def train(config: Verb, verb: str, function: Run, more: dict[str, Any], run: Folder, progress: Progress) -> dict:
    """Record a run and train it where `workers` says; its last metrics."""
    from seit_ray.verbs.command.record import write_record

    run.check_writable()
    name = run.uri.rstrip("/").rpartition("/")[2]
    with locked(run, LOCK, on_note=lambda note: progress(name, 0, 0, note)):
        write_record(run, verb, config)
        arguments = {"run": run, **shared_arguments(config), **more}
        return run_on_workers(config, function, arguments, name, progress)


def run_on_workers(config: Verb, function: Run, arguments: dict[str, Any], name: str, progress: Progress) -> dict:
    """What one of `runs` returns, run in this process or by workers of Ray Train, as `workers` says."""
    workers: Workers = config.workers

    def show(phase: str, done: int, total: int, note: str = "") -> None:
        progress(name, done, total, note)

    if workers.num_workers == 0:
        from seit_ray.runs.here import run_here

        return run_here(function, arguments, show)
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.train.train_job import run_training

    with connected(**config.cluster.model_dump()) as cluster:
        return run_training(
            function, arguments, name=name, cluster=cluster, workers=workers.settings(), on_progress=show
        )
