"""What CCViT begins from and what it makes of it. B rows, L codes on a grid, P patches, D values of a code."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom

__all__ = ["Corrupted", "Seen", "keep"]


@dataclass(frozen=True)
class Seen:
    """What is there before corruption: codes int64 [B,L], and pixels float [B,3,H,W] in [0,1] where these are read."""

    codes: Tensor
    pixels: Tensor | None
    inputs: Tensor  # what the model's `embed` takes: images uint8 or codes


@dataclass(frozen=True)
class Corrupted:
    """masked, replaced bool [B,P]; codes [B,L] with the replaced ones; maps [B,D,h,w] as the model takes them."""

    masked: Tensor
    replaced: Tensor
    codes: Tensor
    maps: Tensor


def keep(inputs: Tensor, labels: Tensor | None, rng: StepRandom) -> Augmented:
    """No augmentation."""
    return Augmented(inputs, labels)
