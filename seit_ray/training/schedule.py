"""Learning rates per step."""

from __future__ import annotations

import math

LR_RULES = {
    "linear": lambda blr, batch: blr * batch / 256,
    "sqrt": lambda blr, batch: blr * math.sqrt(batch) / 8,  # equals the linear rule at batch 1024
}


def peak_lr(*, lr: float | None, blr: float, lr_rule: str, global_batch_size: int) -> float:
    """The rate after warm-up: `lr` if given, else the base rate scaled to the batch size."""
    return lr if lr is not None else LR_RULES[lr_rule](blr, global_batch_size)


def warmup_cosine(epoch: float, *, peak: float, min_lr: float, warmup_epochs: float, epochs: float) -> float:
    """Rate at a fractional epoch: linear from 0 over the warm-up, then half a cosine down to `min_lr` at the end."""
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    share = (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-12)
    return min_lr + (peak - min_lr) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
