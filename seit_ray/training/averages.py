"""The exponential moving average of a model's weights, and a model that has them for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def new_average(model: nn.Module) -> dict[str, Tensor]:
    """An average that starts at the model's own state."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's: a step of 1 - decay."""
    state = model.state_dict()
    floats = [name for name, value in average.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in floats], [state[n] for n in floats], weight=1 - decay)


@contextlib.contextmanager
def holding(model: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """A block in which the model has other weights."""
    current = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(current)
