"""What the verbs that train share: rows of their check, arguments of their runs, and where they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from seit_ray.config import (
    Evaluate,
    Finetune,
    FitTokenizer,
    Loop,
    Model,
    Pretrain,
    Storage,
    Training,
    TrainTokenAdapt,
    Verb,
)
from seit_ray.config.methods import Dtm
from seit_ray.progress import Progress
from seit_ray.storage import Folder, split_uri
from seit_ray.storage.lock import LOCK, locked
from seit_ray.storage.output import claim, refuse_overlap
from seit_ray.verbs.command.places import Rows, folder_of

if TYPE_CHECKING:
    from seit_ray.models.variants import Size
    from seit_ray.runs.morph_sources import MorphSources

# What a run writes first, one or the other; tokenizer.json is that of a tokenizer that is trained.
OURS = (
    "model.json",
    "metrics.jsonl",
    "first_batch.json",
    "checkpoints/",
    "tensorboard/",
    "mlflow.json",
    "tokenizer.json",
    "tokenizer.safetensors",
    "listing/",
)
Run = Callable[..., dict[str, Any]]  # one of `runs`
OfTokens = Pretrain | Finetune  # trainings that may have a token dataset
Trained = Training | TrainTokenAdapt | FitTokenizer  # what leaves a run
OnWorkers = Trained | Evaluate  # what `workers` may run
SHOWN = 5  # names in a line of a replay


def run_folder(config: Training | TrainTokenAdapt) -> Folder:
    """The folder that output and run name together."""
    return folder_of(config.output, config.storage).join(config.run)


def morph_sources(dtm: Dtm, storage: Storage) -> MorphSources:
    """The folders that settings of token morphing name."""
    from seit_ray.runs.morph_sources import MorphSources

    place, file = split_uri(dtm.teacher_weights) if dtm.teacher_weights else ("", "")
    return MorphSources(
        run=folder_of(dtm.target_run, storage) if dtm.target_run else None,
        dataset=folder_of(dtm.target_dataset, storage) if dtm.target_dataset else None,
        weights=folder_of(place, storage) if file else None,
        weights_file=file,
    )


def loop_rows(config: OfTokens, dataset_folder: Folder) -> Rows:
    """Model, steps and peak rate."""
    from seit_ray.batches.sampler import num_steps
    from seit_ray.models.variants import model_grid
    from seit_ray.shards.dataset import TokenDataset

    dataset, model = TokenDataset(dataset_folder), config.model
    grid = model_grid(dataset.info.grid, model.grid_side)
    stem = f"stem {model.stem_kernel}x{model.stem_kernel}, sees {grid[0]}x{grid[1]} tokens"
    loop, num_samples = config.loop, dataset.split("train").rows
    steps = num_steps(num_samples, loop.global_batch_size, loop.epochs)
    return [("model", f"{model.size}, {stem}"), steps_row(config, str(steps))]


def check_size(model: Model) -> Size:
    """The numbers of a model; ValueError for those that do not go together, before it is built."""
    from seit_ray.models.variants import Size, build_size

    return build_size(model.size, **{field.name: getattr(model, field.name) for field in fields(Size)})


def steps_row(config: Training, steps: str) -> tuple[str, str]:
    """How many steps of how many samples, and the highest rate."""
    from seit_ray.training.schedule import peak_lr

    loop, optimizer = config.loop, config.optimizer
    peak = peak_lr(
        lr=optimizer.lr, blr=optimizer.blr, lr_rule=optimizer.lr_rule, global_batch_size=loop.global_batch_size
    )
    return ("steps", f"{steps} of {loop.global_batch_size} samples, {loop.epochs} epochs, peak lr {peak:.2e}")


def shared_arguments(config: Verb) -> dict[str, Any]:
    """The settings that all runs take, as far as a verb has them."""
    sections = [name for name in ("model", "loop", "optimizer") if hasattr(config, name)]
    return {name: getattr(config, name).settings() for name in sections}


def augment_arguments(config: OfTokens) -> dict[str, Any]:
    """The augment section for a run, and the folder of the run that it names."""
    augment = config.augment
    adapt_run = folder_of(augment.adapt_run, config.storage) if augment.adapt_run else None
    return {"augment": augment.settings(), "adapt_run": adapt_run}


def check_run(config: Training | TrainTokenAdapt, verb: str, *sources: Folder) -> None:
    """For a dry run: ValueError where `train` would refuse the run's folder or its settings."""
    from seit_ray.verbs.command.record import refuse_other_settings

    check_loop(config.loop, config.workers.num_workers)
    claim_run(run_folder(config), *sources)
    refuse_other_settings(run_folder(config), verb, config)


def check_loop(loop: Loop, num_workers: int | tuple[int, int] = 0) -> None:
    """ValueError for a tracker that is not installed, or a step that has not a sample for each worker, the least."""
    least = num_workers if isinstance(num_workers, int) else num_workers[0]
    loop.settings().check_workers(max(1, least))


def claim_run(run: Folder, *sources: Folder) -> None:
    """ValueError unless a folder is free for a run, or holds one, and is none of what the run reads."""
    for source in sources:
        refuse_overlap(run, source, "what it reads,")
    claim(run, OURS)


def train(
    config: Trained,
    verb: str,
    function: Run,
    more: dict[str, Any],
    run: Folder,
    progress: Progress,
    *,
    sources: Sequence[Folder],
) -> dict[str, Any]:
    """Record a run and train it where `workers` says; its last metrics. sources: what it reads.

    With `replay`, that step is run in this process, nothing is written, and what it gave is returned.
    """
    from seit_ray.verbs.command.record import as_begun, begin_record, refuse_other_settings

    claim_run(run, *sources)
    refuse_other_settings(run, verb, config)
    name = run.uri.rstrip("/").rpartition("/")[2]
    arguments = {"run": run, "decided_by": as_begun(run, verb, config), **shared_arguments(config), **more}
    if config.replay:
        from seit_ray.runs.here import run_here
        from seit_ray.training.replay import check_kept

        check_kept(run, config.replay)  # before images are listed, which would write into a run that is not there
        return run_here(function, {**arguments, "replay": config.replay}, progress)
    run.check_writable()
    with locked(run, LOCK, on_note=lambda note: progress(name, 0, 0, note)) as lock:

        def watched(phase: str, done: int, total: int, note: str = "") -> None:
            if lock.lost is not None:
                lock.check()
            progress(phase, done, total, note)

        refuse_other_settings(run, verb, config)  # another process may have begun the run since
        begin_record(run, verb, config)
        return run_on_workers(config, function, arguments, name, watched)


def replay_rows(found: dict[str, Any]) -> Rows:
    """The table of a step that was run by itself."""

    def some(names: Sequence[str]) -> str:
        return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "") or "none"

    return [
        ("step", f"{found['step']}, as it was; nothing was written"),
        ("loss", f"{found['train_loss']:.4g} (of its micro-batches: {some([f'{x:.4g}' for x in found['losses']])})"),
        ("gradient norm", f"{found['train_grad_norm']:.4g}"),
        ("not finite first in", some(found["modules"])),
        ("gradients not finite of", some(found["parameters"])),
        ("samples of a loss not finite", some(found["keys"])),
    ]


def run_on_workers(
    config: OnWorkers, function: Run, arguments: dict[str, Any], name: str, progress: Progress
) -> dict[str, Any]:
    """What one of `runs` returns, run in this process or by workers of Ray Train, as `workers` says."""
    workers = config.workers

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
