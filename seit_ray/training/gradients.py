"""Forward and backward of one step: gradients of the global mean, whatever the micro-batches and the ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel as Distributed

from seit_ray.augment.random import StepRandom
from seit_ray.objectives.contract import Objective
from seit_ray.training.micro_batches import Parts
from seit_ray.training.precision import autocast
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World

OnLoss = Callable[[dict[str, Tensor], float], None]  # (metrics of a micro-batch with its loss, its share of the batch)


def add_gradients(
    model: nn.Module,
    objective: Objective,
    step: int,
    parts: Parts,
    *,
    settings: LoopSettings,
    world: World,
    precision: str,
    on_loss: OnLoss,
    synced: bool = True,
) -> Tensor:
    """Add this rank's gradients of a step to those of the model; whether one of its losses is not finite (bool []).

    Every rank scales by its share of the global batch, so uneven shares stay exact. synced=False leaves the ranks'
    gradients apart.
    """
    batch_size = settings.global_batch_size
    seed_dropout(settings.seed, step, world)
    model.train()
    bad = torch.zeros((), dtype=torch.bool, device=world.device)
    for number, (span, batch) in enumerate(parts):
        random = StepRandom(settings.seed, step, span, batch_size, world.device)
        share = len(batch) / batch_size
        goes_on = number < len(parts) - 1 or not synced  # the last micro-batch averages the gradients of all
        with model.no_sync() if goes_on and isinstance(model, Distributed) else contextlib.nullcontext():
            with autocast(world.device, precision):
                loss, metrics = objective.loss(model, batch.to(world.device), random)
            (loss * (share * world.size)).backward()  # DDP averages over ranks; this makes it the global mean
        bad |= ~loss.detach().isfinite()
        on_loss({"loss": loss, **metrics}, share)
    return bad


def seed_dropout(seed: int, step: int, world: World) -> None:
    """Dropout and drop path draw from the device's generator: start it anew each step, so that resuming is exact.

    Not by torch.manual_seed, which notes its stack for each kind of device that is not there: as long as a small step.
    """
    draw = int(StepRandom(seed, step, slice(0, 0), 0).number(f"dropout of rank {world.rank}") * 2**53)
    torch.default_generator.manual_seed(draw)
    if world.device.type == "cuda":
        torch.cuda.manual_seed(draw)
