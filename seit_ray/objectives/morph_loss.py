"""The loss of token morphing: the auxiliary part of MTM and CCViT, and all of DTM.

Legend: B rows, P patches of U = u*u codes, L = P*U codes, T tokens that are grouped (P or L), D width of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seit_ray.augment.random import StepRandom
from seit_ray.objectives.ccvit_losses import grid_of_units
from seit_ray.objectives.morph_targets import AverageTarget, CodebookTarget, MorphInputs, Target
from seit_ray.objectives.morphing import (
    DISTANCES,
    Groups,
    draw_schedules,
    grouped_losses,
    merge_alike,
    morph_loss,
)

__all__ = ["GRIDS", "KINDS", "Morphing"]

KINDS = ("features", "histograms", "labels")
GRIDS = ("patches", "codes")


class Morphing:
    """Groups of alike target tokens, and the loss between groups.

    `kind` "features": distance of group means of predicted and of target features (DTM, equation 5); "histograms" and
    "labels": of scores of codes, by `grouped_losses`, the latter `label_share` of it beside the plain cross-entropy.
    `on` "patches" groups patches, "codes" their codes, which has targets of the codebook alone. All positions count,
    masked or not. What does not fit is a ValueError.
    """

    def __init__(
        self,
        target: Target,
        *,
        patch_grid: tuple[int, int],
        unit: int = 1,
        weight: float = 1.0,
        kind: str = "features",
        on: str = "patches",
        levels: int = 2,
        max_removed: int | None = None,
        max_iterations: int | None = None,
        split: str = "parity",
        protect: str = "none",
        distance: str = "smooth_l1",
        normalize_target: bool = False,
        label_share: float = 0.5,
        stream_tokens: int = 0,
    ) -> None:
        if kind not in KINDS or on not in GRIDS or distance not in DISTANCES:
            raise ValueError(
                f"morphing {kind!r} of {on!r} by {distance!r}; expected one of {', '.join(KINDS)}, of "
                f"{', '.join(GRIDS)} and of {', '.join(DISTANCES)}; choose"
            )
        if on == "codes" and not isinstance(target, CodebookTarget):
            raise ValueError(
                "morphing of codes with features of patches; expected the codebook; set dtm.target=codebook"
            )
        self.target, self.weight, self.kind, self.on = target, weight, kind, on
        self.patch_grid, self.unit, self.stream_tokens = patch_grid, unit, stream_tokens
        side = unit if on == "codes" else 1
        self.tokens_grid = (patch_grid[0] * side, patch_grid[1] * side)
        self.num_tokens = self.tokens_grid[0] * self.tokens_grid[1]
        # published: 14 iterations on 14x14
        most = max(self.tokens_grid) if max_iterations is None else max_iterations
        self.schedule: Any = {"levels": levels, "max_removed": max_removed, "max_iterations": most}
        self.split_by, self.protect, self.distance = split, protect, distance
        self.normalize_target, self.label_share = normalize_target, label_share
        self._average: dict[str, Tensor] | None = None
        self.levels(torch.ones(1, self.num_tokens, 1), StepRandom(0, 0, slice(0, 1), 1))  # wrong numbers are errors now

    @property
    def average(self) -> dict[str, Tensor] | None:
        """The run's moving average, where targets come from it: the loop sets it."""
        return self._average

    @average.setter
    def average(self, weights: dict[str, Tensor] | None) -> None:
        self._average = weights if isinstance(self.target, AverageTarget) else None

    @property
    def has_targets(self) -> bool:
        """Whether targets can be computed: those of the moving average once the loop has handed it over."""
        return bool(self.average) or not isinstance(self.target, AverageTarget)

    @property
    def head_dim(self) -> int:
        """Width of the linear head that the model needs, 0 for none."""
        return self.target.dim if self.kind == "features" else 0

    def fewest(self, core: nn.Module, given: MorphInputs, rng: StepRandom) -> Groups:
        """Of a step's groups those that merge most: for pictures."""
        return min(self.levels(self.target_of(core, given), rng), key=lambda groups: groups.num)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows of a store with a second stream behind -> the run's own, and the second."""
        if not self.stream_tokens:
            return inputs, None
        return inputs[:, : -self.stream_tokens], inputs[:, -self.stream_tokens :]

    def raster(self, values: Tensor) -> Tensor:
        """Values of patches [B,P,U,...] in the order of codes [B,L,...]."""
        grid = (self.patch_grid[0] * self.unit, self.patch_grid[1] * self.unit)
        return grid_of_units(values, grid, self.unit)

    @torch.no_grad()
    def target_of(self, core: nn.Module, given: MorphInputs) -> Tensor:
        """Target tokens float32 [B,T,D]; ValueError for another grid than the model's patches."""
        target = self.target(core, given, self.average).float()
        if target.shape[1] != self.patch_grid[0] * self.patch_grid[1]:
            raise ValueError(
                f"targets of {target.shape[1]} patches; expected {self.patch_grid[0]}x{self.patch_grid[1]}, those of "
                "the model; take a teacher of this grid"
            )
        if self.on == "codes":
            target = self.raster(target.unflatten(2, (self.unit**2, -1)))
        return target

    def levels(self, target: Tensor, rng: StepRandom) -> Sequence[Groups]:
        """Groups of target tokens [B,T,D], one for each schedule of the step."""
        return [
            merge_alike(
                target,
                schedule,
                split=self.split_by,
                protect=self.protect,
                rng=rng,
                stream=f"morph split {level}",
            )
            for level, schedule in enumerate(draw_schedules(rng, self.num_tokens, **self.schedule))
        ]

    def loss(self, core: nn.Module, predicted: Tensor, given: MorphInputs, rng: StepRandom) -> Tensor:
        """Loss float32 of what the model gives of all patches: features [B,P,D], or scores [B,P,U,K]."""
        target = self.target_of(core, given)  # in the precision of the step
        with torch.autocast(predicted.device.type, enabled=False):
            levels = self.levels(target, rng)
            if self.kind == "features":
                if self.on == "codes":
                    predicted = self.raster(predicted.unflatten(2, (self.unit**2, -1)))
                return morph_loss(predicted, target, levels, self.distance, normalize_target=self.normalize_target)
            codes = given.units
            assert codes is not None  # scores are of codes
            if self.on == "codes":
                predicted, codes = self.raster(predicted).unsqueeze(2), self.raster(codes).unsqueeze(2)
            found = [grouped_losses(predicted, codes, groups) for groups in levels]
        if self.kind == "histograms":
            return torch.stack([bags for _, bags, _ in found]).mean()
        share = self.label_share
        return torch.stack([(1 - share) * plain + share * soft for plain, _, soft in found]).mean()
