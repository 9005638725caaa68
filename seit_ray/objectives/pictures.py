"""What objectives show of a batch. B rows, T tokens on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.objectives.ccvit_losses import grid_of_units, units_of
from seit_ray.objectives.morph_targets import MorphInputs
from seit_ray.objectives.morphing import Groups, group_means

if TYPE_CHECKING:
    from seit_ray.models.ccvit import CentroidModel
    from seit_ray.objectives.ccvit import CentroidObjective

__all__ = ["centroid_pictures", "groups_picture", "uint8_of"]


def uint8_of(images: Tensor) -> Tensor:
    """Pixels float in [0,1] -> uint8."""
    return images.mul(255).round().clamp(0, 255).byte()


def groups_picture(images: Tensor, groups: Groups, grid: tuple[int, int]) -> Tensor:
    """Images float [B,3,H,W] with every token's square in the mean colour of its group: groups show as regions."""
    colours = F.adaptive_avg_pool2d(images, grid)  # [B,3,h,w]
    means = group_means(colours.flatten(2).transpose(1, 2), groups).transpose(1, 2).unflatten(2, grid)
    return F.interpolate(means, images.shape[2:], mode="nearest")


@torch.no_grad()
def centroid_pictures(
    objective: CentroidObjective, model: CentroidModel, inputs: Tensor, rng: StepRandom
) -> list[tuple[str, Tensor]]:
    """Of CCViT: what is seen, corrupted (masked grey), what is to be told, and groups where it morphs."""
    morphing, grid, unit = objective.morphing, objective.grid, objective.unit
    inputs, stream = morphing.split(inputs) if morphing else (inputs, None)
    seen = objective.seen(inputs, rng)
    corrupted = objective.corrupt(model, seen, rng)
    before = objective.decoded(seen.codes) if seen.pixels is None else seen.pixels
    side = unit * objective.patch
    masked = corrupted.masked.unflatten(1, objective.patch_grid)
    grey = masked.repeat_interleave(side, 1).repeat_interleave(side, 2).unsqueeze(1)
    places = grid_of_units(corrupted.replaced.unsqueeze(2).expand(-1, -1, unit**2), grid, unit)
    after = torch.where(objective.cells(places), objective.decoded(corrupted.codes), before).masked_fill(grey, 0.5)
    rows = [("original", before), ("corrupted", after), ("target", objective.decoded(seen.codes))]
    if morphing and morphing.has_targets:
        given = MorphInputs(seen.inputs, units_of(seen.codes, grid, unit), stream)
        rows.append(("groups", groups_picture(before, morphing.fewest(model, given, rng), morphing.tokens_grid)))
    return [(title, uint8_of(values)) for title, values in rows]
