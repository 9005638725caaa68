"""Fit a centroid tokenizer: images, in one or many parts, -> patches -> k-means (CCViT, arXiv 2303.04664, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seit_ray.progress import Progress, silent
from seit_ray.tokenizers.centroid import CentroidTokenizer, image_patches
from seit_ray.tokenizers.fit_numbers import fitted_images
from seit_ray.tokenizers.kmeans import fit_kmeans_parts, own_rows
from seit_ray.tokenizers.points_part import EachPart, PointsPart, one_part
from seit_ray.tokenizers.reconstruction import psnr_of_error, squared_error

JUDGED_IMAGES = 512  # that PSNR is measured on, at most


class ImagesPart(PointsPart):
    """A part of the images of a fit: uint8 [n,3,H,W], H = W; the patches that are chosen move to the device."""

    def __init__(self, images: Tensor, patch_size: int, device: str = "cpu"):
        super().__init__(torch.empty(0, 3 * patch_size**2, dtype=torch.uint8, device=device))
        self.images, self.patch_size = images, patch_size

    def choose(self, rows: Tensor) -> None:
        """Take patches int64 [n], counted over the part in raster order, as the points."""
        patches = image_patches(self.images, self.images.shape[-1], self.patch_size)
        self.points = patches[rows].to(self.points.device)

    def error(self, codebook: Tensor, resize: str, bounds: tuple[int, int]) -> tuple[int, int]:
        """(summed squared error of decode(encode(images)), number of values) of images from, to."""
        images = self.images[slice(*bounds)]
        tokenizer = CentroidTokenizer(
            codebook, image_size=images.shape[-1], patch_size=self.patch_size, resize=resize
        ).to(self.points.device)
        return squared_error(images, tokenizer.decode(tokenizer.encode(images)).cpu()), images.numel()


def fit_centroids(
    images: Tensor, *, patch_size: int, codebook_size: int, device: str = "cpu", **settings: Any
) -> tuple[CentroidTokenizer, dict[str, Any]]:
    """Fit on uint8 images [N,3,H,W] in this process; the rest as `fit_centroids_parts`."""
    each = one_part(ImagesPart(images, patch_size, device))
    size = images.shape[-1]
    return fit_centroids_parts(
        each,
        [len(images)],
        image_size=size,
        patch_size=patch_size,
        codebook_size=codebook_size,
        device=device,
        **settings,
    )


def fit_centroids_parts(
    each: EachPart,
    num_images: Sequence[int],
    *,
    image_size: int,
    patch_size: int,
    codebook_size: int,
    resize: str = "squash",
    iterations: int = 20,
    sample_patches: int = 500_000,
    seed: int = 0,
    on_progress: Progress = silent,
    device: str = "cpu",
) -> tuple[CentroidTokenizer, dict[str, Any]]:
    """Fit on the images of all parts: the tokenizer, and a report of objective, code usage and PSNR.

    A tenth of the images, the last, is held out of the fit when there are at least 20, and gives `psnr_held_out_db`.
    The same whatever the parts, on CPUs: a function of the images in their order and of the seed. The start of k-means
    is chosen on `device`.
    """
    total, tokens = sum(num_images), (image_size // patch_size) ** 2
    fitted = fitted_images(total)
    rows = torch.arange(fitted * tokens)
    if len(rows) > sample_patches:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(rows), generator=generator)[:sample_patches].sort().values
    own = own_rows([number * tokens for number in num_images], rows)
    each("choose", own)
    found = fit_kmeans_parts(
        each,
        [len(part) for part in own],
        codebook_size,
        iterations=iterations,
        seed=seed,
        on_progress=on_progress,
        device=device,
    )
    tokenizer = CentroidTokenizer(found.centroids, image_size=image_size, patch_size=patch_size, resize=resize)

    def psnr_db(start: int, stop: int) -> float:
        ends = [sum(num_images[: i + 1]) for i in range(len(num_images))]
        begins = [end - number for end, number in zip(ends, num_images, strict=True)]
        bounds = [
            (min(max(start - b, 0), e - b), min(max(stop - b, 0), e - b)) for b, e in zip(begins, ends, strict=True)
        ]
        errors, values = zip(*each("error", tokenizer.codebook, resize, bounds), strict=True)
        return psnr_of_error(sum(errors), sum(values))

    report = {
        "images": fitted,
        "patches": len(rows),
        "iterations": len(found.objectives) - 1,
        "objective": found.objectives,
        "empty_clusters_repaired": found.repaired,
        "code_usage": float((found.counts > 0).double().mean()),
        "psnr_db": psnr_db(0, min(fitted, JUDGED_IMAGES)),
    }
    if fitted < total:
        report["psnr_held_out_db"] = psnr_db(fitted, min(total, fitted + JUDGED_IMAGES))
    return tokenizer, report
