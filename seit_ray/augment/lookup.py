"""Codes that are pixels: f and g of TokenAdapt by lookup, for centroid tokenizers. B batch, p patch side, K codes.

Beside it their mirror images.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from seit_ray.tokenizers.codebook import quantize_maps

__all__ = ["PixelAdapter", "mirror_codes", "mirrored"]


class PixelAdapter:
    """An `Adapter` without learnt parts: f lays the codes' pixels out as an image, g takes the nearest codes of one.

    codebook [K,3*p*p]: patches in the order channel, row, column. A width that is none of a patch is a ValueError.
    Source: CCViT's tokenizer; what SeiT++ has TokenAdapt learn is exact here, but for the pixels lost in tokenising.
    """

    def __init__(self, codebook: Tensor, *, grid: tuple[int, int], out_grid: tuple[int, int]) -> None:
        patch = round((codebook.shape[1] / 3) ** 0.5)
        if codebook.shape[1] != 3 * patch**2:
            raise ValueError(
                f"codebook of width {codebook.shape[1]}; expected 3*p*p, pixels of a patch, as a centroid tokenizer "
                "has it; take augment.adapt=tokenadapt for other tokenizers"
            )
        self.codebook, self.patch = codebook, patch
        self.grid, self.out_grid = (grid[0], grid[1]), (out_grid[0], out_grid[1])

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width in pixels of the image that `to_codes` takes."""
        return self.out_grid[0] * self.patch, self.out_grid[1] * self.patch

    def to_feature(self, maps: Tensor) -> Tensor:
        """Codebook rows [B,3*p*p,h,w] -> image [B,3,h*p,w*p]."""
        return F.pixel_shuffle(maps, self.patch)

    def to_codes(self, maps: Tensor) -> Tensor:
        """Image [B,3,h'*p,w'*p] -> nearest codes int64 [B,h',w']."""
        return quantize_maps(F.pixel_unshuffle(maps, self.patch), self.codebook, "l2")


def mirror_codes(codebook: Tensor) -> Tensor:
    """int64 [K]: the nearest code of each code's mirror image. codebook [K,3*p*p] as of `PixelAdapter`."""
    adapter = PixelAdapter(codebook, grid=(1, 1), out_grid=(1, 1))
    return adapter.to_codes(adapter.to_feature(codebook[:, :, None, None]).flip(-1)).flatten()


def mirrored(tokens: Tensor, codes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens int64 [B,h*w] of a grid -> those of the mirror images, as `PixelAdapter` makes them.

    codes: of `mirror_codes`.
    """
    return codes[tokens.unflatten(1, grid).flip(-1).flatten(1)]
