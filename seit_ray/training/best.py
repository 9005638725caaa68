"""The weights of the evaluation that was best so far. They travel in the checkpoints, so no kill mixes them up."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

EMA = "ema_"


class Best:
    """Keeps a copy, on the host, of the weights at the best value of a metric; the largest, or the least of a loss."""

    def __init__(self, metric: str | None):
        self.metric = metric
        self.value: float | None = None
        self.step = 0
        self.weights: dict[str, torch.Tensor] = {}

    def update(self, metrics: dict[str, Any], step: int, model: nn.Module, ema: dict[str, torch.Tensor]) -> None:
        """Take the model's weights, or the averaged ones for a metric ema_..., if the metrics are the best so far.

        A metric that the evaluation does not give is a ValueError.
        """
        if self.metric is None:
            return
        if self.metric not in metrics:
            known = sorted(name for name, value in metrics.items() if isinstance(value, float))
            raise ValueError(
                f"keep_best {self.metric!r}; expected a metric of this run's evaluation: {', '.join(known)}; choose one"
            )
        value = metrics[self.metric]
        if math.isnan(value) or not self.is_better(value):
            return
        self.value, self.step = value, step
        weights = ema if self.metric.startswith(EMA) else model.state_dict()
        self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}

    def is_better(self, value: float) -> bool:
        """Whether a value of the metric is better than the best so far; the first one is."""
        if self.value is None or self.metric is None:
            return True
        return value < self.value if "loss" in self.metric else value > self.value

    def about(self) -> dict[str, Any] | None:
        """metric, value and step for a checkpoint; None when there is no best yet."""
        return None if self.value is None else {"metric": self.metric, "value": self.value, "step": self.step}

    def restore(self, about: dict[str, Any] | None, weights: dict[str, torch.Tensor]) -> None:
        """Go on from a checkpoint; one that kept the best of another metric, or none, has nothing to go on from."""
        if about and about["metric"] == self.metric:
            self.value, self.step, self.weights = about["value"], about["step"], weights
