"""What a step hands to an objective and what it gets back."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import Batch

__all__ = ["Batch", "Objective", "unwrap"]


class Objective(Protocol):
    """What is learnt; the package's docstring says what holds for all of them.

    What an objective may have beside: `average`, which the loop sets to the moving average of the model's state (None
    where none is kept; it stays None where nothing is taken from it); `looks`, which the loop sets to whether the step
    is recorded, so that metrics that cost something are left out of the others; `pictures`, what the first batch shows.
    """

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss (float32 scalar) and metrics (detached scalars), means over this rank's rows."""
        ...


def unwrap(model: nn.Module) -> Any:
    """Return the model inside DistributedDataParallel, of the objective's kind, for its attributes.

    Calls go through the wrapper.
    """
    return getattr(model, "module", model)
