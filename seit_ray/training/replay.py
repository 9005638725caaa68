"""One step of a run again, by itself: where numbers that are not finite come from. Writes nothing."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seit_ray.models.weights import load_weights
from seit_ray.storage import Folder
from seit_ray.training.bad_steps import AVERAGE, FOLDER, MODEL
from seit_ray.training.gradients import add_gradients
from seit_ray.training.micro_batches import MicroBatches
from seit_ray.training.world import World

if TYPE_CHECKING:
    from seit_ray.training.loop import Trainer


def replay_step(trainer: Trainer, step: int) -> dict[str, Any]:
    """Loss and gradients of step number `step` with the weights before it, for all of its ranks in turn; not compiled.

    As it was, but where the run was compiled and has dropout, which compiled blocks draw otherwise. Gives
    train_loss (the mean), losses (of each micro-batch), modules (names of those that gave something not finite, in the
    order of their calls), parameters (whose gradients are not finite), keys (of the samples in micro-batches whose loss
    is not finite). ValueError where the run has kept nothing of that step.
    """
    model = trainer.model
    weights, average, about = read_bad_step(trainer.run, step)
    model.load_state_dict(weights)
    restore_average(trainer, average, step)
    trainer.keep_order(about["shuffle_rows"])
    settings = replace(trainer.settings, **{name: about[name] for name in ("accum_steps", "max_micro_batch")})
    rows = trainer.store.step_rows(settings.global_batch_size, settings.seed, step - 1)
    found: dict[str, Any] = {"step": step, "losses": [], "modules": [], "keys": []}
    total = 0.0
    for rank in range(about["world_size"]):
        cutting = MicroBatches(settings, World(rank, about["world_size"], trainer.world.device), lambda note: None)
        parts = cutting.of_step(trainer.store, step - 1)
        losses: list[float] = []

        def note(metrics: dict[str, Tensor], share: float, losses: list[float] = losses) -> None:
            losses.append(float(metrics["loss"].detach()))

        with watched(model, found["modules"]):
            add_gradients(
                model,
                trainer.objective,
                step - 1,
                parts,
                settings=settings,
                world=World(rank, 1, trainer.world.device),  # gradients are added up here, not averaged
                precision=trainer.precision,
                on_loss=note,
            )
        for (span, batch), loss in zip(parts, losses, strict=True):
            found["losses"].append(loss)
            total += loss * len(batch) / settings.global_batch_size
            if not math.isfinite(loss):
                found["keys"] += trainer.store.keys(rows[span])
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    norm = torch.nn.utils.get_total_norm(list(gradients.values()))
    return {**found, "parameters": bad, "train_loss": total, "train_grad_norm": float(norm)}


def check_kept(run: Folder, step: int) -> Folder:
    """The folder of a bad step; ValueError where the run has kept nothing of it."""
    folder = run.join(FOLDER)
    place = folder.join(f"step-{step:09d}")
    if not place.exists("step.json"):
        kept = [str(int(name.rpartition("-")[2])) for name in folder.list_folders()]
        raise ValueError(
            f"replay {step} of {run.uri}; expected a step that was not finite and is kept: "
            f"{', '.join(kept) or 'none'}; name one of them"
        )
    return place


def read_bad_step(run: Folder, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights before a step that was kept, the moving average it aimed at, and what it was made of.

    ValueError where it was not kept.
    """
    place = check_kept(run, step)
    average = f"{AVERAGE}.safetensors"
    found = load_weights(place.read(average)) if place.exists(average) else {}
    return load_weights(place.read(f"{MODEL}.safetensors")), found, json.loads(place.read("step.json"))


@torch.no_grad()
def restore_average(trainer: Trainer, average: dict[str, Tensor], step: int) -> None:
    """Give the objective the average that the step aimed at; ValueError where it needs one that was not kept."""
    if not trainer.takes_average:
        return
    if average.keys() != trainer.ema.keys():
        raise ValueError(
            f"replay {step} without the moving average that it took its targets from; expected "
            f"{AVERAGE}.safetensors in its folder; replay a step that is not finite and was kept since"
        )
    for name, value in average.items():
        trainer.ema[name].copy_(value)


@contextlib.contextmanager
def watched(model: nn.Module, names: list[str]) -> Iterator[None]:
    """A block in which the names of modules that give something not finite are added to `names`, each once."""

    def look(name: str, given: Any) -> None:
        values = given if isinstance(given, tuple | list) else [given]
        floats = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]
        if name not in names and not all(bool(v.isfinite().all()) for v in floats):
            names.append(name)

    handles = [
        module.register_forward_hook(lambda module, given, out, name=name: look(name or "model", out))
        for name, module in model.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
