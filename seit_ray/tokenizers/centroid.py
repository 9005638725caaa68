"""Centroid tokenizer: k-means centroids of pixel patches are the codes (CCViT, arXiv 2303.04664, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from seit_ray.evaluation.reconstruction import psnr
from seit_ray.tokenizers.contract import check_images
from seit_ray.tokenizers.kmeans import fit_kmeans, nearest


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

    def encode(self, images: Tensor) -> Tensor:
        """Tokens int64 [B,L], raster order, of uint8 images [B,3,H,W]: exact nearest centroids."""
        patches = image_patches(images, self.image_size, self.patch_size)
        ids = nearest(patches.to(self.codebook.device).float() / 255, self.codebook)[0]
        return ids.view(len(images), self.grid[0] * self.grid[1])

    def decode(self, tokens: Tensor) -> Tensor:
        """uint8 images [B,3,H,W] of tokens [B,L], by lookup."""
        h, w = self.grid
        p = self.patch_size
        pixels = self.codebook.mul(255).round().clamp(0, 255).to(torch.uint8)
        patches = pixels[tokens.to(self.codebook.device).long()].view(len(tokens), h, w, 3, p, p)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), 3, h * p, w * p)

    def to(self, device: str) -> Self:
        """Move to a device, in place."""
        self.codebook = self.codebook.to(device)
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


def fit_centroids(
    images: Tensor,
    *,
    patch_size: int,
    codebook_size: int,
    resize: str = "squash",
    iterations: int = 20,
    sample_patches: int = 500_000,
    seed: int = 0,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[CentroidTokenizer, dict[str, Any]]:
    """Fit on uint8 images [N,3,H,W]: the tokenizer, and a report of objective, code usage and PSNR.

    A tenth of the images is held out of the fit when there are at least 20, and gives `psnr_held_out_db`.
    """
    size = images.shape[-1]
    held = images[len(images) - len(images) // 10 :] if len(images) >= 20 else images[:0]
    fitted = images[: len(images) - len(held)]
    patches = image_patches(fitted, size, patch_size)
    if len(patches) > sample_patches:
        generator = torch.Generator().manual_seed(seed)
        patches = patches[torch.randperm(len(patches), generator=generator)[:sample_patches]]
    points = patches.to(device).float() / 255
    found = fit_kmeans(points, codebook_size, iterations=iterations, seed=seed, on_progress=on_progress)
    tokenizer = CentroidTokenizer(found.centroids, image_size=size, patch_size=patch_size, resize=resize)
    used = torch.bincount(nearest(points, found.centroids)[0], minlength=codebook_size) > 0
    report = {
        "images": len(fitted),
        "patches": len(points),
        "iterations": len(found.objectives) - 1,
        "objective": found.objectives,
        "empty_clusters_repaired": found.repaired,
        "code_usage": float(used.double().mean()),
        "psnr_db": reconstruction_psnr(tokenizer, fitted[:512]),
    }
    if len(held):
        report["psnr_held_out_db"] = reconstruction_psnr(tokenizer, held[:512])
    return tokenizer.to("cpu"), report


def reconstruction_psnr(tokenizer: CentroidTokenizer, images: Tensor) -> float:
    """PSNR in dB of decode(encode(images)) against uint8 images [N,3,H,W]."""
    return psnr(images, tokenizer.decode(tokenizer.encode(images)).cpu())
