"""What CCViT compares, as pure functions. Legend: B rows, P patches of U codes, Q positions, K codes of D values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "SoftLabels",
    "code_loss",
    "expected_pixels",
    "grid_of_units",
    "patch_pixels",
    "soft_labels",
    "standardised_pixels",
    "unit_pixels",
    "units_of",
]


def units_of(codes: Tensor, grid: tuple[int, int], unit: int) -> Tensor:
    """Codes [B,L] of a grid -> those of every patch of unit x unit codes [B,P,U], raster order in both."""
    maps = codes.reshape(len(codes), grid[0] // unit, unit, grid[1] // unit, unit)
    return maps.transpose(2, 3).reshape(len(codes), -1, unit * unit)


def grid_of_units(units: Tensor, grid: tuple[int, int], unit: int) -> Tensor:
    """The inverse of `units_of`: [B,P,U,...] -> [B,L,...]."""
    tail = units.shape[3:]
    maps = units.reshape(len(units), grid[0] // unit, grid[1] // unit, unit, unit, *tail).transpose(2, 3)
    return maps.reshape(len(units), grid[0] * grid[1], *tail)


def patch_pixels(images: Tensor, side: int) -> Tensor:
    """Images [B,3,H,W] -> pixels of their patches [B,P,3*side*side], in the order channel, row, column."""
    patches = images.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(len(images), -1, 3 * side * side)


def unit_pixels(values: Tensor, patch: int) -> Tensor:
    """Pixels of U = u*u codes [...,U,3*p*p] -> pixels of the patch that they make [...,3*(u*p)^2], channel first."""
    unit = round(values.shape[-2] ** 0.5)
    squares = values.unflatten(-1, (3, patch, patch)).unflatten(-4, (unit, unit))  # [...,u,u,3,p,p]
    squares = squares.movedim(-3, -5).transpose(-3, -2)  # [...,3,u,p,u,p]
    return squares.flatten(-5)


def standardised_pixels(patches: Tensor, min_std: float = 1e-3) -> Tensor:
    """Patches [...,D], each with mean 0 and unbiased variance 1.

    `min_std` squared is added to the variance: of patches that hardly vary, what is left of them is noise, and stays
    small. 1e-3 of pixels in [0,1] is what was published.
    """
    mean, variance = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + min_std**2).sqrt()


@dataclass(frozen=True)
class SoftLabels:
    """Of every code, the nearest ones [K,m], itself the first, and how likely each is [K,m], summing to 1."""

    codes: Tensor
    shares: Tensor


def soft_labels(codebook: Tensor, nearest: Tensor, tau: float) -> SoftLabels:
    """Labels spread over a code and its nearest [K,m-1], as exp(-squared distance / tau)."""
    own = torch.arange(len(codebook), device=nearest.device).unsqueeze(1)
    codes = torch.cat([own, nearest], dim=1)
    squares = (codebook[codes] - codebook[own]).square().sum(dim=2)
    return SoftLabels(codes, (-squares / tau).softmax(dim=1))


def code_loss(scores: Tensor, targets: Tensor, soft: SoftLabels | None = None) -> Tensor:
    """Cross-entropy of scores [...,K] against codes [...], or against what they are spread over."""
    scores, targets = scores.float().flatten(0, -2), targets.flatten()
    if soft is None:
        return F.cross_entropy(scores, targets)
    log_p = scores.log_softmax(dim=1)
    return -(soft.shares[targets] * log_p.gather(1, soft.codes[targets])).sum(dim=1).mean()


def expected_pixels(scores: Tensor, codebook: Tensor, patch: int) -> Tensor:
    """Scores [...,U,K] -> pixels [...,3*(u*p)^2] of the centroids, weighted by their probabilities."""
    return unit_pixels(scores.to(codebook.dtype).softmax(dim=-1) @ codebook, patch)
