"""Brightness, contrast and saturation of images, a draw a row, on the device. B rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom

__all__ = ["ColorJitter", "jitter"]

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue (ITU-R 601-2)


def jitter(images: Tensor, factors: Tensor, order: Tensor | None = None) -> Tensor:
    """Images float [B,3,H,W] of 0 to 255 under factors [B,3] of brightness, contrast and saturation.

    order: int64 [B,3], which of the three comes first, second and third in each row; in this order when None.
    """
    if order is None:
        for number, operation in enumerate(OPERATIONS):
            images = operation(images, factors[:, number].view(-1, 1, 1, 1))
        return images
    for place in order.view(-1, 3, 1, 1, 1).unbind(1):
        done = images
        for number, operation in enumerate(OPERATIONS):  # of all rows: to take some would wait for the device
            factor = factors[:, number].view(-1, 1, 1, 1)
            done = torch.where(place == number, operation(images, factor), done)
        images = done
    return images


def grey_of(images: Tensor) -> Tensor:
    """[B,1,H,W]."""
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    """All values times a factor."""
    return (images * factor).clamp(0, 255)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """The distance to the image's mean grey times a factor."""
    grey = grey_of(images).mean(dim=(2, 3), keepdim=True)
    return (grey + factor * (images - grey)).clamp(0, 255)


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """The distance to each pixel's grey times a factor."""
    grey = grey_of(images)
    return (grey + factor * (images - grey)).clamp(0, 255)


OPERATIONS = (brighten, contrast, saturate)


class ColorJitter:
    """Jitter of uint8 images [B,3,H,W] by factors of 1 - strength to 1 + strength, then what else there is.

    The three come in an order that is drawn for every image, as in torchvision. A strength outside 0 to 1 is a
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
        order = rng.uniform("order of colour jitter", 3).argsort(1)
        return self.then(jitter(images.float(), factors, order).round_().to(torch.uint8), labels, rng)
