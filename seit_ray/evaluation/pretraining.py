"""What a pre-training objective says of a split: its loss and metrics, with draws that are always the same."""

from __future__ import annotations

import torch
from torch import nn

from seit_ray.augment.random import StepRandom
from seit_ray.batches.contract import Samples
from seit_ray.evaluation.batches import eval_batches
from seit_ray.evaluation.masked import EVAL_SEED
from seit_ray.objectives.contract import Objective
from seit_ray.training.world import World

__all__ = ["objective_metrics"]


@torch.inference_mode()
def objective_metrics(
    model: nn.Module, objective: Objective, store: Samples, world: World, batch_size: int = 256
) -> dict[str, float]:
    """Means over what can be read of loss and metrics, with masks of a fixed seed; alike on any number of ranks."""
    model.eval()
    sums: dict[str, torch.Tensor] = {}
    total = torch.zeros((), dtype=torch.float64, device=world.device)
    for chunk, rows, batch in eval_batches(store, batch_size, world):
        random = StepRandom(EVAL_SEED, chunk, rows, len(store), world.device)
        loss, metrics = objective.loss(model, batch, random)
        for name, value in {"loss": loss, **metrics}.items():
            part = value.double() * len(batch.inputs)
            sums[name] = sums.get(name, torch.zeros_like(part)) + part
        total += len(batch.inputs)
    names = max(world.gather(list(sums)), key=len)  # a rank may have no chunk, and so none
    zero = torch.zeros_like(total)
    *values, samples = world.sum(torch.stack([*(sums.get(name, zero) for name in names), total])).tolist()
    return {name: value / samples for name, value in zip(names, values, strict=True)}
