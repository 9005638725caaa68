"""What a forward itself moves of a model, as a codebook in training: a step that does not count undoes it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ForwardState:
    """The tensors that `model.moved_by_forward()` names, if it does, as they were before a step."""

    def __init__(self, model: nn.Module):
        moved = getattr(model, "moved_by_forward", None)
        self.tensors: list[Tensor] = moved() if moved else []
        self.before: list[Tensor] = []

    def keep(self) -> None:
        """A step begins."""
        self.before = [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def settle(self, skipped: Tensor) -> None:
        """Where the step is skipped (1.0 or 0.0, on the device, for which nothing waits), as before it."""
        for tensor, before in zip(self.tensors, self.before, strict=True):
            tensor.copy_(torch.where(skipped > 0, before, tensor))

    @torch.no_grad()
    def drop(self) -> None:
        """As before the step, which is done again; before the first step, nothing."""
        for tensor, before in zip(self.tensors, self.before, strict=False):
            tensor.copy_(before)
