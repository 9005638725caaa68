"""The exponential moving average of a model's weights, and a model that has them for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from seit_ray.training.best import EMA
from seit_ray.training.precision import autocast

Evaluate = Callable[[Any, int], dict[str, float]]  # (the model as it was given, steps done) -> metrics


def new_average(model: nn.Module) -> dict[str, Tensor]:
    """An average that starts at the model's own state."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, decay: float, skipped: Tensor) -> None:
    """Move the averaged weights towards the model's: a step of 1 - decay, none where skipped is 1.0."""
    state = model.state_dict()
    floats = [name for name, value in average.items() if value.is_floating_point()]
    averages = [average[name] for name in floats]
    steps = torch._foreach_sub([state[name] for name in floats], averages)
    torch._foreach_mul_(steps, (1 - decay) * (1 - skipped))
    torch._foreach_add_(averages, steps)


@contextlib.contextmanager
def holding(model: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """A block in which the model has other weights."""
    current = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(current)


def evaluations(
    evaluate: Evaluate, done: int, model: nn.Module, average: dict[str, Tensor], device: torch.device, precision: str
) -> dict[str, float]:
    """Metrics of the val split in the precision of the training, for the model and, as ema_..., for its average."""
    with autocast(device, precision):
        metrics = evaluate(model, done)
        if average:
            with holding(model, average):
                metrics |= {EMA + name: value for name, value in evaluate(model, done).items()}
    return metrics
