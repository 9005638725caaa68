"""Augmentation in pixels, for tokenizers that decode by lookup: tokens -> pixels -> tokens, on the device.

Legend: B batch, L = h*w tokens, h' x w' token grid of the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seit_ray.augment.geometry import Geometry, apply_geometry, draw_geometry
from seit_ray.augment.random import StepRandom
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.pixels import check_grid, decode_pixels, encode_pixels, pixel_size

__all__ = ["PixelAugment", "jitter_colours", "warp_pixels"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as torchvision has it


def warp_pixels(images: Tensor, geometry: Geometry, size: tuple[int, int]) -> Tensor:
    """uint8 images [B,3,H,W] under a geometry, uint8 [B,3,*size]; what comes from outside is black (0)."""
    with torch.autocast(images.device.type, enabled=False):
        return apply_geometry(images.float(), geometry, size).round_().clamp_(0, 255).to(torch.uint8)


def jitter_colours(images: Tensor, rng: StepRandom, *, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Images in 0-255 [B,3,H,W], float, each with factors of its own, in this order, uniform in 1 +- the strength.

    Brightness scales; contrast moves from the mean luma of the image, saturation from the luma of the pixel, each
    clamped to 0-255. Source: torchvision's ColorJitter, which also shuffles the order.
    """

    def factor(stream: str, strength: float) -> Tensor:
        return 1 + strength * (2 * rng.uniform(stream, 1, 1, 1) - 1)

    weights = images.new_tensor(LUMA).view(3, 1, 1)
    if brightness:
        images = (images * factor("jitter_brightness", brightness)).clamp_(0, 255)
    if contrast:
        mean = (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        images = torch.lerp(mean, images, factor("jitter_contrast", contrast)).clamp_(0, 255)
    if saturation:
        grey = (images * weights).sum(1, keepdim=True)
        images = torch.lerp(grey, images, factor("jitter_saturation", saturation)).clamp_(0, 255)
    return images


class PixelAugment:
    """Tokens [B,L] -> tokens [B,h'*w'] of the decoded, augmented and encoded-again images.

    What TokenAdapt has to learn is exact here, since centroids decode by lookup and encode by nearest neighbour; what
    is augmented is the decoded image. `geometry` are the ranges of `draw_geometry`; the strengths of colour jitter
    are in 0 to 1, 0 is off. A tokenizer of another family, and strengths outside, are ValueErrors.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        out_grid: tuple[int, int],
        geometry: dict[str, Any],
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
    ) -> None:
        if not isinstance(tokenizer, CentroidTokenizer):
            raise ValueError(
                f"a {tokenizer.family} tokenizer; expected a centroid tokenizer, which decodes by lookup; "
                "augment with TokenAdapt instead"
            )
        check_grid(tokenizer, out_grid)
        self.jitter = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, strength in self.jitter.items():
            if not 0.0 <= strength <= 1.0:
                raise ValueError(f"{name} {strength}; expected 0 to 1; 0 is off")
        self.tokenizer, self.geometry = tokenizer, geometry
        self.size, self.out_size = pixel_size(tokenizer, tokenizer.grid), pixel_size(tokenizer, out_grid)
        self.draw(StepRandom(0, 0, slice(0, 1), 1))  # wrong ranges are an error before the first step

    def draw(self, rng: StepRandom) -> Geometry:
        """A geometry for each row; crops are whole pixels."""
        return draw_geometry(rng, self.size, **self.geometry)

    @torch.no_grad()
    def __call__(self, tokens: Tensor, rng: StepRandom) -> Tensor:
        """Augment this rank's rows; `rng` is theirs."""
        images = decode_pixels(self.tokenizer, tokens, self.tokenizer.grid).float()
        images = jitter_colours(images, rng, **self.jitter)
        images = warp_pixels(images, self.draw(rng), self.out_size)
        return encode_pixels(self.tokenizer, images)
