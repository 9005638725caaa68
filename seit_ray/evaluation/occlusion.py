"""A classifier of tokens that does not see all of its units, or sees them in other places. B images, P units, V kept.

A unit is what the stem makes one patch of. What MTM is for, without images: Naseer et al. 2021 (occlusion, shuffling).
"""

from __future__ import annotations

import torch
from torch import Tensor

from seit_ray.augment.mask_counts import num_units_at
from seit_ray.augment.random import StepRandom
from seit_ray.evaluation.cases import Case
from seit_ray.models.vit import TokenViT

UNIT_SEED = 0x5E17  # the units are the same for every run and world size


def unit_order(rows: slice | Tensor, num_samples: int, num_patches: int, device: torch.device) -> Tensor:
    """A random order of the units [B,P] of rows of a split: those of a smaller share are among those of a larger."""
    random = StepRandom(UNIT_SEED, 0, rows, num_samples, device)
    return random.uniform("units", num_patches).argsort(dim=1, stable=True)


def logits_under(case: Case, model: TokenViT, patches: Tensor, order: Tensor) -> Tensor:
    """Logits [B,C] of patches [B,P,width] of which the first units of an order [B,P] are removed, or change places."""
    num = num_units_at(case.severity, patches.shape[1])
    chosen, width = order[:, :num], patches.shape[2]
    if case.corruption == "occlusion":
        kept = order[:, num:].sort(dim=1).values
        return model.logits_of(patches, kept)
    # each takes the content of the next in the order: none stays, whatever the share
    content = patches.gather(1, chosen.roll(-1, dims=1)[..., None].expand(-1, -1, width))
    moved = patches.scatter(1, chosen[..., None].expand(-1, -1, width), content)
    return model.logits_of(moved)
