"""AdamW with one parameter group for each (learning-rate scale, weight decay)."""

from __future__ import annotations

import torch
from torch import nn

UNDECAYED = ("pos_embed", "cls_token")  # beside every 1-D parameter, where layer decay is used (fine-tuning)


def layer_of(name: str, depth: int) -> int:
    """Layer of a parameter: 0 for all before the blocks, i+1 for block i, depth+1 for all after them.

    The published fine-tuning leaves the token embedding at the full rate, beside the head; here it is in layer 0,
    where it belongs by its place (SeiT++, fine-tuning).
    """
    if name.startswith(("cls_token", "pos_embed", "patch_embed", "token_emb", "mask_token")):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1


def parameter_groups(model: nn.Module, *, weight_decay: float, layer_decay: float) -> list[dict]:
    """Groups with `lr_scale` and `weight_decay`; 1-D parameters never decay."""
    depth = len(model.blocks)
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        fixed = parameter.ndim <= 1 or name.endswith(".bias") or (layer_decay < 1 and name in UNDECAYED)
        decay = 0.0 if fixed else weight_decay
        scale = layer_decay ** (depth + 1 - layer_of(name, depth))
        group = groups.setdefault((scale, decay), {"params": [], "lr_scale": scale, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(
    model: nn.Module, *, weight_decay: float, betas: tuple[float, float], layer_decay: float
) -> torch.optim.AdamW:
    """Fused AdamW; the loop sets the rate of every step."""
    groups = parameter_groups(model, weight_decay=weight_decay, layer_decay=layer_decay)
    return torch.optim.AdamW(groups, lr=0.0, betas=tuple(betas), fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Rate of every group: lr times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
