"""From one BEiT encoder to another: stems on pixels and on centroids, other grids, and timm's own model.

Legend: W width, D = 3*p*p values of a centroid of p x p pixels (a pixel is one of 1 x 1), u codes a side of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from timm.models.beit import Beit
from torch import Tensor
from torch.nn import functional as F

from seit_ray.models.beit import BeitEncoder, BeitViT, LayerNorm, code_patch
from seit_ray.models.weights import copy_entries

__all__ = ["as_timm", "code_stem", "init_beit", "pixel_stem"]

KEPT = ("cls_token", "patch_embed.", "rel_pos_bias.", "blocks.")
STEM, BIAS = "patch_embed.proj.weight", "relative_position_bias_table"


def pixel_stem(weight: Tensor) -> Tensor:
    """The patch embedding [W,3,u*p,u*p] of pixels that a stem [W,D,u,u] on centroid rows is: the same numbers."""
    width, dim, unit, _ = weight.shape
    patch = code_patch(dim)
    squares = weight.view(width, 3, patch, patch, unit, unit).permute(0, 1, 4, 2, 5, 3)
    return squares.reshape(width, 3, unit * patch, unit * patch)


def code_stem(weight: Tensor, patch: int) -> Tensor:
    """The inverse: from [W,3,u*p,u*p] to [W,D,u,u] for centroids of `patch`; ValueError when they do not tile it."""
    width, _, side, _ = weight.shape
    if side % patch:
        raise ValueError(
            f"patch embedding of {side}x{side} pixels for codes of {patch}x{patch}; expected a multiple; take a "
            "tokenizer whose patches tile it"
        )
    unit = side // patch
    squares = weight.view(width, 3, unit, patch, unit, patch).permute(0, 1, 3, 5, 2, 4)
    return squares.reshape(width, 3 * patch * patch, unit, unit)


def init_beit(
    model: BeitViT, state: Mapping[str, Tensor], patch_grid: tuple[int, int], *, transfer: bool = False
) -> list[str]:
    """Load a pre-trained encoder into a classifier; return the entries that stay new: head and `fc_norm`.

    Stems on pixels and on centroids are turned into each other. With `transfer` another grid of patches is fine, for
    which the position bias of the old `patch_grid` is resampled, and so are other patches, whose stem is new. Anything
    else that is missing or of another shape is a ValueError that lists it.
    """
    wanted = model.state_dict()
    kept = {name: value for name, value in state.items() if name.startswith(KEPT) or name in wanted}
    kept = {name: value for name, value in kept.items() if not name.startswith(("head.", "fc_norm."))}
    if STEM not in kept:
        raise ValueError(
            f"state dict with {', '.join(list(state)[:5]) or 'nothing'}; expected the entries of a BEiT encoder "
            f"({STEM}, ...); name a run of objective ccvit or dtm"
        )
    pixels = pixel_stem(kept[STEM])
    unit = wanted[STEM].shape[2] * code_patch(wanted[STEM].shape[1])
    new = [name for name in wanted if name.startswith(("head.", "fc_norm."))]
    if pixels.shape[2] == unit:
        kept[STEM] = code_stem(pixels, code_patch(wanted[STEM].shape[1]))
    elif transfer:
        new += [name for name in wanted if name.startswith("patch_embed.")]
        kept = {name: value for name, value in kept.items() if name not in new}
    if transfer:
        kept = {
            name: resampled_bias(value, patch_grid, model.patch_grid) if name.endswith(BIAS) else value
            for name, value in kept.items()
        }
    copy_entries(model, {name: wanted[name] for name in wanted if name not in new}, kept)
    return new


def resampled_bias(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A table of position biases [(2h-1)(2w-1)+3,H] of one patch grid, for another: bicubic, ends on ends.

    The last three rows, of the class token, stay as they are.
    """
    if old == new:
        return table
    shape, wanted = (2 * old[0] - 1, 2 * old[1] - 1), (2 * new[0] - 1, 2 * new[1] - 1)
    maps = table[:-3].float().unflatten(0, shape).permute(2, 0, 1).unsqueeze(0)
    maps = F.interpolate(maps, wanted, mode="bicubic", align_corners=True)
    return torch.cat([maps.squeeze(0).permute(1, 2, 0).flatten(0, 1).to(table.dtype), table[-3:]])


@torch.no_grad()
def as_timm(model: BeitEncoder) -> Beit:
    """The same encoder as timm's `Beit` on standardised pixels, and its head where it is a classifier.

    On centroids too: their stem is the patch embedding of the pixels that they stand for. What pre-training alone uses
    is left out. Only for square images, as timm has them.
    """
    stem = pixel_stem(model.patch_embed.proj.weight)
    patch, state = stem.shape[2], {k: v for k, v in model.state_dict().items() if k.startswith(KEPT)}
    found = Beit(
        img_size=(model.patch_grid[0] * patch, model.patch_grid[1] * patch),
        patch_size=patch,
        num_classes=model.num_classes if isinstance(model, BeitViT) else 0,
        global_pool="avg" if isinstance(model, BeitViT) and model.pool == "mean" else "token",
        embed_dim=stem.shape[0],
        depth=len(model.blocks),
        num_heads=model.rel_pos_bias.relative_position_bias_table.shape[1],
        norm_layer=LayerNorm,
        init_values=1.0,
        use_abs_pos_emb=False,
        use_rel_pos_bias=f"blocks.0.attn.{BIAS}" in state,
        use_shared_rel_pos_bias=True,
    )
    state |= {k: v for k, v in model.state_dict().items() if k.startswith(("head.", "fc_norm.", "norm."))}
    state[STEM] = stem
    found.load_state_dict(state)
    return found.eval()
