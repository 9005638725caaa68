"""AdamW or Muon, with one parameter group for each (learning-rate scale, weight decay, kind of step)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from seit_ray.training.muon import MATRICES, Muon
from seit_ray.training.settings import OptimizerSettings

IN_BLOCK = re.compile(r"(blocks|layers)\.\d+\.")  # of a transformer
POSITIONS = ("pos_embed", "cls_token", "decoder_pos_embed_learned")


def layer_of(name: str, depth: int, token_emb_last: bool = False) -> int:
    """Layer of a parameter: 0 for all before the blocks, i+1 for block i, depth+1 for all after them.

    `token_emb_last` puts the token embedding beside the head, at the full rate, as the published fine-tuning does;
    by its place it belongs in layer 0 (SeiT++, fine-tuning).
    """
    if name.startswith("token_emb"):
        return depth + 1 if token_emb_last else 0
    if name.startswith(("cls_token", "pos_embed", "patch_embed", "mask_token")):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    layer_decay: float,
    decay_positions: bool = True,
    token_emb_last: bool = False,
    matrices: bool = False,
) -> list[dict[str, Any]]:
    """Groups with `lr_scale`, `weight_decay` and MATRICES: where asked, the matrices of the blocks have their own.

    1-D parameters never decay, positions and class token where asked. Frozen parameters are in no group. A model
    without blocks has no layers to tell apart: a `layer_decay` other than 1 is a ValueError.
    """
    depth = len(getattr(model, "blocks", ()))
    if not depth and layer_decay != 1:
        raise ValueError(
            f"layer_decay {layer_decay} for {type(model).__name__}; expected 1, since it has no blocks; set it to 1"
        )
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        fixed = parameter.ndim <= 1 or name.endswith(".bias") or (name in POSITIONS and not decay_positions)
        decay = 0.0 if fixed else weight_decay
        scale = layer_decay ** (depth + 1 - layer_of(name, depth, token_emb_last)) if depth else 1.0
        inner = matrices and is_inner(name, parameter)
        about = {"params": [], "lr_scale": scale, "weight_decay": decay, MATRICES: inner}
        groups.setdefault((scale, decay, inner), about)["params"].append(parameter)
    return list(groups.values())


def is_inner(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is the matrix of a layer within the blocks: no embedding, position, bias table or head."""
    return parameter.ndim == 2 and name.endswith(".weight") and IN_BLOCK.search(name) is not None


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Fused AdamW, or Muon; the loop sets the rate of every step. ValueError for Muon where it has no matrices."""
    is_muon = settings.name == "muon"
    groups = parameter_groups(
        model,
        weight_decay=settings.weight_decay,
        layer_decay=settings.layer_decay,
        decay_positions=settings.decay_positions,
        token_emb_last=settings.token_emb_last,
        matrices=is_muon,
    )
    if not is_muon:
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, fused=True)
    if not any(group[MATRICES] for group in groups):
        raise ValueError(
            f"optimizer.name muon for {type(model).__name__}; expected a model with matrices in its blocks that are "
            "trained; set optimizer.name=adamw"
        )
    return Muon(groups, betas=settings.betas)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Rate of every group: lr times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters that have a gradient."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Norm of all gradients together, on the device; not finite when one of them is not."""
    return get_total_norm([p.grad for p in parameters_of(optimizer) if p.grad is not None])


def take_step(optimizer: torch.optim.AdamW, norm: Tensor, skipped: Tensor, *, clip_grad: float | None) -> None:
    """Clip gradients of that norm, update, drop them; with skipped 1.0 nothing changes, and the host does not wait."""
    if clip_grad is not None:
        clip_grads_with_norm_(parameters_of(optimizer), clip_grad, norm)
    # The fused kernel reads it on the device, as it does for torch's GradScaler.
    optimizer.found_inf = skipped  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
