"""Images of other sizes than a tokenizer's own: what it takes to tokenise a crop. B batch, h x w grid, p patch side."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer

__all__ = ["check_grid", "decode_pixels", "encode_pixels", "encodes_any_grid", "pixel_size"]


def encodes_any_grid(tokenizer: Tokenizer) -> TypeGuard[CentroidTokenizer]:
    """Whether each code depends on its own patch alone, so that images of any whole patches can be tokenised."""
    return isinstance(tokenizer, CentroidTokenizer)


def check_grid(tokenizer: Tokenizer, grid: tuple[int, int]) -> None:
    """ValueError for a grid that the tokenizer cannot give: a network sees the whole image, centroids a patch."""
    if min(grid) < 1:
        raise ValueError(f"grid {grid[0]}x{grid[1]}; expected sides of 1 or more; raise them")
    if tuple(grid) != tuple(tokenizer.grid) and not encodes_any_grid(tokenizer):
        own = "x".join(map(str, tokenizer.grid))
        raise ValueError(
            f"grid {grid[0]}x{grid[1]} of a {tokenizer.family} tokenizer; expected its own {own}, since each of its "
            f"codes depends on the whole image; set the grid to {own} or take a centroid tokenizer"
        )


def pixel_size(tokenizer: Tokenizer, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of the images that a grid of the tokenizer stands for."""
    height, width = (tokenizer.image_size * side // own for side, own in zip(grid, tokenizer.grid, strict=True))
    return height, width


def encode_pixels(tokenizer: Tokenizer, images: Tensor) -> Tensor:
    """Tokens int64 [B,L] of uint8 images [B,3,H,W]: of the tokenizer's own size, or of any patches of centroids.

    In full precision whatever autocast says, and without gradient. Another size is a ValueError.
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        if not encodes_any_grid(tokenizer) or images.shape[2:] == (tokenizer.image_size,) * 2:
            return tokenizer.encode(images)
        p, (height, width) = tokenizer.patch_size, images.shape[2:]
        if images.dtype != torch.uint8 or height % p or width % p:
            raise ValueError(
                f"images {images.dtype} {tuple(images.shape)}; expected uint8 with sides that are multiples of the "
                f"patch size {p}; crop to whole patches"
            )
        patches = images.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5)
        return tokenizer.encode_patches(patches.reshape(-1, 3 * p * p)).view(len(images), -1)


def decode_pixels(tokenizer: Tokenizer, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """uint8 images [B,3,H,W] of tokens [B,h*w] on any grid that `check_grid` lets pass."""
    if tuple(grid) == tuple(tokenizer.grid):
        return tokenizer.decode(tokens)
    check_grid(tokenizer, grid)
    assert encodes_any_grid(tokenizer)  # the others have one grid
    # Decoding is a lookup, patch by patch: each is decoded as an image of its own.
    p = tokenizer.patch_size
    single = CentroidTokenizer(tokenizer.codebook, image_size=p, patch_size=p, resize=tokenizer.resize)
    patches = single.decode(tokens.reshape(-1, 1)).view(len(tokens), *grid, 3, p, p)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), 3, grid[0] * p, grid[1] * p)
