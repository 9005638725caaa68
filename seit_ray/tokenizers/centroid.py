"""Centroid tokenizer: k-means centroids of pixel patches are the codes (CCViT, arXiv 2303.04664, section 3.1)."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from seit_ray.tokenizers.contract import check_images
from seit_ray.tokenizers.search import WORTH_A_BASIS, CentroidSearch, search_for


class CentroidTokenizer:
    """Codes are rows of a codebook [K, 3*p*p]: patches of p x p pixels in [0,1], order channel, row, column.

    `compacted_from` is the K that a compacted codebook once had.
    """

    family = "centroid"
    metric = "l2"

    def __init__(
        self,
        codebook: Tensor,
        *,
        image_size: int,
        patch_size: int,
        resize: str = "squash",
        compacted_from: int | None = None,
    ):
        if image_size % patch_size:
            raise ValueError(
                f"image_size {image_size} with patch_size {patch_size}; expected a multiple of patch_size; "
                f"use image_size {image_size // patch_size * patch_size or patch_size}"
            )
        if codebook.ndim != 2 or codebook.shape[1] != 3 * patch_size**2:
            raise ValueError(
                f"codebook {tuple(codebook.shape)}; expected [K, {3 * patch_size**2}] for patch_size {patch_size}"
            )
        self.codebook = codebook.float()
        self.image_size, self.patch_size, self.resize = image_size, patch_size, resize
        self.compacted_from = compacted_from
        self.grid = (image_size // patch_size,) * 2
        self._search: CentroidSearch | None = None

    def encode(self, images: Tensor) -> Tensor:
        """Tokens int64 [B,L], raster order, of uint8 images [B,3,H,W]: exact nearest centroids."""
        patches = image_patches(images, self.image_size, self.patch_size)
        return self.encode_patches(patches).view(len(images), self.grid[0] * self.grid[1])

    def encode_patches(self, patches: Tensor) -> Tensor:
        """Tokens int64 [N] of uint8 patches [N,3*p*p]: exact nearest centroids."""
        patches = patches.to(self.codebook.device)
        search = self._search or search_for(patches, self.codebook)
        if len(patches) >= WORTH_A_BASIS:  # enough to have judged by
            self._search = search
        return search(patches)[0]

    def decode(self, tokens: Tensor) -> Tensor:
        """uint8 images [B,3,H,W] of tokens [B,L], by lookup."""
        h, w = self.grid
        p = self.patch_size
        pixels = self.codebook.mul(255).round().clamp(0, 255).to(torch.uint8)
        patches = pixels[tokens.to(self.codebook.device).long()].view(len(tokens), h, w, 3, p, p)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), 3, h * p, w * p)

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place."""
        self.codebook, self._search = self.codebook.to(device), None
        return self

    def select_codes(self, kept: Tensor) -> Self:
        """The tokenizer with only the codes `kept` [K'], in that order, on the same device."""
        config = {**self.config(), "compacted_from": self.compacted_from or len(self.codebook)}
        return type(self)(self.codebook[kept.to(self.codebook.device)], **config)

    def config(self) -> dict[str, Any]:
        """Plain values that, with `tensors`, rebuild it."""
        values = {"image_size": self.image_size, "patch_size": self.patch_size, "resize": self.resize}
        # Left out where it says nothing: the fingerprints of older tokenizers hold.
        return values if self.compacted_from is None else {**values, "compacted_from": self.compacted_from}

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors that, with `config`, rebuild it."""
        return {"codebook": self.codebook}

    @classmethod
    def build(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The inverse of `config` and `tensors`."""
        return cls(tensors["codebook"], **config)


def image_patches(images: Tensor, image_size: int, patch_size: int) -> Tensor:
    """uint8 patches [B*L, 3*p*p] of uint8 images [B,3,H,W], raster order; ValueError for another size."""
    check_images(images, image_size)
    n, p = image_size // patch_size, patch_size
    patches = images.reshape(len(images), 3, n, p, n, p).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(len(images) * n * n, 3 * p * p)
