"""Published weights of CCViT, DTM and of classifiers with BEiT's blocks: their settings, read off shapes.

Legend: P patches, K codes, p side in pixels of a centroid, u codes a side of a patch, h x w patch grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from seit_ray.models.variants import SIZES, Size

if TYPE_CHECKING:
    from seit_ray.models.published import Given, Published

__all__ = ["beit_classifier_settings", "centroid_settings", "student_settings"]

TABLE = "rel_pos_bias.relative_position_bias_table"
OWN_TABLE = "blocks.0.attn.relative_position_bias_table"


def centroid_settings(weights: Published, given: Given) -> dict[str, Any]:
    """Of CCViT's pre-trained model of images; its codes are those of the dataset's centroids.

    Behind which block branch 2 takes its patches, weights do not tell: as published unless `early_layers` is given.
    """
    given.refuse("decoder_num_heads", "stem_stride", "stem_padding", "pool", "num_heads")
    num_codes, dim = given.codebook.shape
    patch = pixel_side(given.codebook)
    shared, _, kernel = encoder_settings(weights, given)
    unit = kernel // patch
    rows = weights.shape("lm_head.weight", 2)[0]
    if kernel % patch or rows != unit * unit * num_codes:
        raise ValueError(
            f"weights for {rows} codes of {kernel}x{kernel} pixels; expected {num_codes} of {patch}x{patch}, as the "
            "dataset's codebook has; take the dataset that they were trained on"
        )
    return {
        **shared,
        "num_codes": num_codes,
        "code_dim": dim,
        "unit": unit,
        "early_layers": given.early_layers,
        "head_layers": weights.depth("cls_pt_layers."),
        "shared_head": "cls_pt_lm_head.weight" not in weights.state,
    }


def student_settings(weights: Published, given: Given) -> dict[str, Any]:
    """Of DTM's student of images; what it predicts is as wide as its head."""
    given.refuse("decoder_num_heads", "stem_stride", "stem_padding", "pool", "num_heads", "early_layers")
    shared, _, _ = encoder_settings(weights, given)
    return {
        **shared,
        "output_dim": weights.shape("lm_head.weight", 2)[0],
        "own_bias": OWN_TABLE in weights.state,
    }


def beit_classifier_settings(weights: Published, given: Given) -> dict[str, Any]:
    """Of a classifier of images with BEiT's blocks."""
    given.refuse("decoder_num_heads", "stem_stride", "stem_padding", "num_heads", "early_layers")
    shared, _, kernel = encoder_settings(weights, given)
    del shared["kernel"]
    pool = "mean" if "fc_norm.weight" in weights.state else "cls"
    if given.pool not in (None, pool):
        raise ValueError(f"pool {given.pool} of weights that read out by {pool}; expected {pool}; leave it out")
    return {
        **shared,
        "num_classes": weights.shape("head.weight", 2)[0],
        "stem_kernel": kernel,
        "pool": pool,
        "encoder": "beit",
        "own_bias": OWN_TABLE in weights.state,
    }


def encoder_settings(weights: Published, given: Given) -> tuple[dict[str, Any], tuple[int, int], int]:
    """Size, inputs and grid in pixels of an encoder; its patch grid; side of a patch."""
    width, channels, kernel, _ = weights.shape("patch_embed.proj.weight", 4)
    if channels != 3:
        raise ValueError(f"weights of a stem on {channels} channels; expected 3, of pixels; take published weights")
    table = TABLE if TABLE in weights.state else OWN_TABLE
    rows, heads = weights.shape(table, 2)
    depth = weights.depth("blocks.")
    grid = patch_grid(rows, given, kernel)
    named = next((s for s in SIZES.values() if (s.width, s.depth, s.num_heads) == (width, depth, heads)), None)
    size = named or Size(width, depth, heads, width, depth, heads)
    pixels = (grid[0] * kernel, grid[1] * kernel)
    return {"size": size, "inputs": "pixels", "grid": pixels, "kernel": kernel}, grid, kernel


def patch_grid(rows: int, given: Given, kernel: int) -> tuple[int, int]:
    """Patches of which (2h-1)(2w-1)+3 pairs have a bias: those of the dataset's images, else a square."""
    patch = pixel_side(given.codebook)
    height, width = (side * patch // kernel for side in given.grid) if patch else (0, 0)
    if height and (2 * height - 1) * (2 * width - 1) + 3 == rows:
        return height, width
    side = (round(max(rows - 3, 0) ** 0.5) + 1) // 2
    if (2 * side - 1) ** 2 + 3 != rows:
        raise ValueError(
            f"weights with position biases of {rows} pairs; expected (2h-1)(2w-1)+3 of the dataset's patches, or of a "
            "square; take the dataset that they were trained on"
        )
    return side, side


def pixel_side(codebook: Tensor) -> int:
    """Side of a centroid in pixels; 0 where rows are no pixels."""
    side = round((codebook.shape[1] / 3) ** 0.5)
    return side if 3 * side * side == codebook.shape[1] else 0
