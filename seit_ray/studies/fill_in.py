"""What a pre-trained model fills in where patches are masked: rows of pictures. B images, P patches, U codes each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seit_ray.augment.block_masks import block_masks
from seit_ray.augment.mask_counts import num_masked_of
from seit_ray.augment.masking import mask_noise
from seit_ray.augment.random import StepRandom
from seit_ray.batches.crop import center_crop_tokens
from seit_ray.models.exports import import_model
from seit_ray.objectives.ccvit_losses import grid_of_units, patch_pixels, units_of
from seit_ray.objectives.pictures import uint8_of
from seit_ray.report.pictures import grey_out
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer

MASK_RATIO = 0.5  # of masked token models
KINDS = ("mtm", "ccvit")

Rows = list[tuple[str, Any]]


@torch.inference_mode()
def filled_in(run: Folder, tokenizer: Tokenizer, tokens: Tensor) -> tuple[Rows, str]:
    """(rows of pictures uint8 [B,3,H,W] with their titles, what they show) of a finished run and tokens [B,L].

    Of a model that sees a crop of the grid (model.grid_side), its middle.
    """
    from seit_ray.models.about import read_about

    kind = read_about(run, *KINDS)["kind"]
    model, _ = import_model(run, kind)
    tokenizer, tokens = seen_by(model, tokenizer, tokens)
    draws = StepRandom(0, 0, slice(0, len(tokens)), len(tokens))
    decoded = tokenizer.decode(tokens)
    if kind == "mtm":
        noise = mask_noise(draws, model.num_patches)
        mask = noise.argsort(1).argsort(1) < round(model.num_patches * MASK_RATIO)
        filled = [("filled in", tokenizer.decode(model.predict(tokens, mask)))]
        words = f"{MASK_RATIO:.0%} of the units are masked; the model predicts their codes from the rest."
    else:
        mask = block_masks(draws, model.patch_grid, num_masked_of(model.patch_grid, None))
        filled = told_by_branches(model, tokenizer, tokens, mask)
        words = (
            f"{int(mask[0].sum())} of {model.num_patches} patches are masked; the model tells their codes and pixels."
        )
    grey = grey_out(decoded, mask.view(-1, *model.patch_grid))
    return [("decoded", decoded), ("masked", grey), *filled], words


def seen_by(model: Any, tokenizer: Tokenizer, tokens: Tensor) -> tuple[Tokenizer, Tensor]:
    """The middle of the tokens [B,L] that a model with a smaller grid sees, and a tokenizer that decodes it alone."""
    grid = tuple(model.grid)
    if grid[0] >= tokenizer.grid[0]:  # all of them, or pixels
        return tokenizer, tokens
    assert isinstance(tokenizer, CentroidTokenizer)  # the quickstart's; its patches are decoded one by one
    side = tokenizer.patch_size
    middle = CentroidTokenizer(tokenizer.codebook, image_size=side * grid[0], patch_size=side, resize=tokenizer.resize)
    return middle, center_crop_tokens(tokens, tokenizer.grid, grid)


def told_by_branches(model: Any, tokenizer: Tokenizer, tokens: Tensor, mask: Tensor) -> Rows:
    """What both branches of CCViT tell of masked patches: likeliest codes, and pixels with the true mean and spread."""
    decoded = tokenizer.decode(tokens)
    inputs = decoded if tuple(model.grid) != tuple(tokenizer.grid) else tokens
    places = torch.arange(model.num_patches).expand(len(tokens), -1)
    first, second, _ = model(model.embed(inputs), mask, places)
    units = units_of(tokens, tokenizer.grid, model.unit)
    codes = torch.where(mask.unsqueeze(2), first.argmax(3), units)
    rows: Rows = [("its codes", tokenizer.decode(grid_of_units(codes, tokenizer.grid, model.unit)))]
    if model.shared_head:
        return rows
    side = decoded.shape[2] // model.patch_grid[0]
    patches = patch_pixels(decoded.float() / 255, side)
    told = second * patches.std(dim=2, keepdim=True) + patches.mean(dim=2, keepdim=True)
    shown = torch.where(mask.unsqueeze(2), told, patches)
    return [*rows, ("its pixels", uint8_of(images_of(shown, model.patch_grid, side)))]


def images_of(patches: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """The inverse of `patch_pixels`: [B,P,3*side*side] -> [B,3,H,W]."""
    squares = patches.view(len(patches), *grid, 3, side, side).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(len(patches), 3, grid[0] * side, grid[1] * side)
