"""From a trained token model to a classifier of other tokens, another grid, or pixels. P patches, D width."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import copy_entries, encoder_weights

__all__ = ["TRAINABLE", "freeze_all_but", "resample_positions", "transfer_weights"]

INPUT = ("token_emb.", "patch_embed.")
TRAINABLE = ("all", "attention")


def resample_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Positions [1,1+P,D] of one patch grid, for another: bicubic, the class slot as it is."""
    if positions.shape[1] != 1 + old[0] * old[1]:
        raise ValueError(
            f"positions of shape {list(positions.shape)}; expected [1,{1 + old[0] * old[1]},D] for {old[0]}x{old[1]} "
            "patches; name the grid that the model was trained with"
        )
    if old == new:
        return positions
    maps = positions[:, 1:].float().unflatten(1, old).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, new, mode="bicubic", align_corners=False)
    patches = maps.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return torch.cat([positions[:, :1], patches], dim=1)


def transfer_weights(
    vit: TokenViT, state: Mapping[str, Tensor], patch_grid: tuple[int, int], *, same_tokens: bool
) -> list[str]:
    """Take over blocks, norm, class token and resampled positions; return the entries that stay new.

    `patch_grid` is that of the trained model. With `same_tokens` embedding and stem come along too; of another
    tokenizer they mean nothing, and are new, as the head always is. Blocks of another shape or number are a ValueError
    that lists them. Source: SeiT, storage-efficient pre-training.
    """
    wanted = vit.state_dict()
    new = [name for name in wanted if name.startswith("head.") or (name.startswith(INPUT) and not same_tokens)]
    kept = encoder_weights(state)
    kept = {name: value for name, value in kept.items() if same_tokens or not name.startswith(INPUT)}
    if "pos_embed" in kept:
        kept["pos_embed"] = resample_positions(kept["pos_embed"], patch_grid, vit.patch_grid)
    copy_entries(vit, {name: wanted[name] for name in wanted if name not in new}, kept)
    return new


def freeze_all_but(model: nn.Module, trainable: str, new: list[str]) -> None:
    """With "attention", freeze all parameters but attention, head and the entries that are new; "all" freezes none.

    Source: SeiT, section on fine-tuning; Touvron et al. 2022, "Three things everyone should know about ViT".
    """
    if trainable not in TRAINABLE:
        raise ValueError(f"trainable {trainable!r}; expected one of {', '.join(TRAINABLE)}; choose one")
    if trainable == "all":
        return
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".attn." in name or name.startswith("head.") or name in new)
