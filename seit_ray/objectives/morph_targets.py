"""What morphing compares with. Legend: B rows, P patches of U codes, D width of a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from seit_ray.augment.target_numbers import stream_step

__all__ = [
    "AverageTarget",
    "CodebookTarget",
    "FrozenTarget",
    "MorphInputs",
    "StreamTarget",
    "Target",
]


@dataclass(frozen=True)
class MorphInputs:
    """Of one step: what a model's `patch_features` reads, codes [B,P,U] of every patch, a second stream [B,L2]."""

    inputs: Tensor
    units: Tensor | None = None
    stream: Tensor | None = None


class Target(Protocol):
    """Targets of every patch, without gradient."""

    dim: int  # D

    def __call__(self, core: nn.Module, given: MorphInputs, average: dict[str, Tensor] | None) -> Tensor:
        """[B,P,D]."""


class CodebookTarget:
    """The codebook's rows of a patch, one behind the other: the control arm."""

    def __init__(self, codebook: Tensor, num_units: int) -> None:
        self.codebook, self.dim = codebook, num_units * codebook.shape[1]

    def __call__(self, core: nn.Module, given: MorphInputs, average: dict[str, Tensor] | None) -> Tensor:
        assert given.units is not None  # of a run on tokens
        return F.embedding(given.units, self.codebook).flatten(2)


class StreamTarget:
    """Rows of another tokenizer's codebook [K2,D2], whose tokens [B,L2] lie on a grid of k x k a patch."""

    def __init__(self, codebook: Tensor, grid: tuple[int, int], patch_grid: tuple[int, int]) -> None:
        self.codebook, self.grid, self.step = codebook, grid, stream_step(grid, patch_grid)
        self.dim = self.step**2 * codebook.shape[1]

    def __call__(self, core: nn.Module, given: MorphInputs, average: dict[str, Tensor] | None) -> Tensor:
        assert given.stream is not None  # the store brings it
        rows = F.embedding(given.stream.long(), self.codebook).unflatten(1, self.grid)
        step = self.step
        rows = rows.unflatten(2, (-1, step)).unflatten(1, (-1, step)).permute(0, 1, 3, 2, 4, 5)
        return rows.flatten(3).flatten(1, 2)


class FrozenTarget:
    """Patch features of a trained model that does not learn: a finished run, or a teacher of images."""

    def __init__(self, model: nn.Module, dim: int) -> None:
        self.model, self.dim = model.requires_grad_(False).eval(), dim

    def __call__(self, core: nn.Module, given: MorphInputs, average: dict[str, Tensor] | None) -> Tensor:
        self.model.eval()
        features: Any = self.model
        return features.patch_features(given.inputs)


class PatchFeatures(nn.Module):
    """A model's `patch_features` as a forward, for `functional_call`."""

    def __init__(self, core: Any) -> None:
        super().__init__()
        self.core = core

    def forward(self, inputs: Tensor) -> Tensor:
        return self.core.patch_features(inputs)


class AverageTarget:
    """Patch features of the run's own moving average, of what is not masked: the main arm, no data from elsewhere."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def __call__(self, core: nn.Module, given: MorphInputs, average: dict[str, Tensor] | None) -> Tensor:
        if not average:
            raise ValueError(
                "no moving average to take targets from; expected loop.ema_decay above 0; set it (0.996 or more)"
            )
        was_training = core.training
        core.eval()  # no dropout in what is aimed at
        try:
            weights = {f"core.{name}": value for name, value in average.items()}
            return functional_call(PatchFeatures(core), weights, (given.inputs,))
        finally:
            core.train(was_training)
