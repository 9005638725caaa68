"""Learning rates per step."""

from __future__ import annotations

import math
from typing import Any

LR_RULES = {
    "linear": lambda blr, batch: blr * batch / 256,
    "sqrt": lambda blr, batch: blr * math.sqrt(batch) / 8,  # equals the linear rule at batch 1024
}


def peak_lr(*, lr: float | None, blr: float, lr_rule: str, global_batch_size: int) -> float:
    """The rate after warm-up: `lr` if given, else the base rate scaled to the batch size."""
    return lr if lr is not None else LR_RULES[lr_rule](blr, global_batch_size)


def warmup_cosine(
    epoch: float, *, peak: float, min_lr: float, warmup_epochs: float, epochs: float, warmup_lr: float = 0.0
) -> float:
    """Rate at a fractional epoch: linear from `warmup_lr`, then half a cosine to `min_lr` at the end."""
    if epoch < warmup_epochs:
        return warmup_lr + (peak - warmup_lr) * epoch / warmup_epochs
    share = (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-12)
    return min_lr + (peak - min_lr) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def warmup_linear(
    epoch: float, *, peak: float, min_lr: float, warmup_epochs: float, epochs: float, warmup_lr: float = 0.0
) -> float:
    """Rate at a fractional epoch: linear from `warmup_lr`, then linear to `min_lr` at the end (CCViT, segmentation)."""
    if epoch < warmup_epochs:
        return warmup_lr + (peak - warmup_lr) * epoch / warmup_epochs
    share = (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-12)
    return min_lr + (peak - min_lr) * (1 - min(share, 1.0))


def seit_epochs(
    epoch: float, *, peak: float, min_lr: float, warmup_epochs: float, epochs: float, warmup_lr: float = 0.0
) -> float:
    """Rate as SeiT's published training used it: one an epoch, an epoch late, the cosine counted from epoch 0."""
    late = max(int(epoch) - 1, 0)
    if late < warmup_epochs:
        return warmup_lr + (peak - warmup_lr) * late / warmup_epochs
    return min_lr + (peak - min_lr) * 0.5 * (1 + math.cos(math.pi * late / epochs))


SCHEDULES = {"warmup_cosine": warmup_cosine, "warmup_linear": warmup_linear, "seit_epochs": seit_epochs}


def rate_at(epoch: float, *, schedule: str = "warmup_cosine", **settings: Any) -> float:
    """Rate at a fractional epoch by the schedule of the given name."""
    return SCHEDULES[schedule](epoch, **settings)
