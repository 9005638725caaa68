"""Brightness, contrast and saturation of images, a draw a row, on the device. B rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom

__all__ = ["ColorJitter", "jitter"]

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue (ITU-R 601-2)


def jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Images float [B,3,H,W] of 0 to 255 under factors [B,3] of brightness, contrast and saturation, in this order."""
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in factors.unbind(1))
    luma = images.new_tensor(LUMA).view(1, 3, 1, 1)
    images = (images * brightness).clamp(0, 255)
    grey = (images * luma).sum(1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    images = (grey + contrast * (images - grey)).clamp(0, 255)
    grey = (images * luma).sum(1, keepdim=True)
    return (grey + saturation * (images - grey)).clamp(0, 255)


class ColorJitter:
    """Jitter of uint8 images [B,3,H,W] by factors of 1 - strength to 1 + strength, then what else there is.

    The published one shuffles the order of the three for every image; here it is fixed. A strength outside 0 to 1 is a
    ValueError. Source: DTM, recipe (0.4).
    """

    def __init__(self, strength: float, then: Callable[[Tensor, Tensor | None, StepRandom], Augmented]) -> None:
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"color_jitter {strength}; expected 0 to 1; lower it")
        self.strength, self.then = strength, then

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor | None, rng: StepRandom) -> Augmented:
        """Augment this rank's rows."""
        factors = 1 + self.strength * (2 * rng.uniform("colour jitter", 3) - 1)
        return self.then(jitter(images.float(), factors).round_().to(torch.uint8), labels, rng)
