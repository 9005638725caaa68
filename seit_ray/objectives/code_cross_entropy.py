"""Cross-entropy of linear scores of codes, some rows at a time: neither scores nor their gradients are ever whole.

Legend: N rows of width W, U codes each, K codes to choose from, m codes that a label is spread over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seit_ray.objectives.ccvit_losses import SoftLabels

__all__ = ["Judged", "judge_codes"]

CHUNK_SCORES = {"cpu": 1 << 19, "cuda": 1 << 26}  # scores at a time: what a core's cache holds, or 256 MiB
LEAST_ROWS = 512  # at a time, that the gradient of a large weight is not added to once too often


class Judged(NamedTuple):
    """The mean loss, float32 unless features are float64; the share of rows whose best code is theirs, if asked."""

    loss: Tensor
    accuracy: Tensor | None


class Told(NamedTuple):
    """What is to be told of a chunk: targets int64 [n], or the codes [n,m] and shares [n,m] they are spread over."""

    targets: Tensor
    smoothing: float
    codes: Tensor | None
    shares: Tensor | None

    def losses(self, log_p: Tensor) -> Tensor:
        """Loss [n] of log-probabilities [n,K]."""
        if self.codes is not None and self.shares is not None:
            return -(self.shares * log_p.gather(1, self.codes)).sum(1)
        own = -log_p.gather(1, self.targets[:, None]).squeeze(1)
        return (1 - self.smoothing) * own - self.smoothing * log_p.mean(1) if self.smoothing else own

    def subtract(self, p: Tensor) -> Tensor:
        """The gradient of `losses` by the scores that give probabilities [n,K]; in place."""
        if self.codes is not None and self.shares is not None:
            return p.scatter_add_(1, self.codes, -self.shares)
        if self.smoothing:
            p.sub_(self.smoothing / p.shape[1])
        return p.scatter_add_(1, self.targets[:, None], p.new_full((len(p), 1), self.smoothing - 1.0))


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean loss and number of hits; gradients of features, weight and bias are made beside it, and kept till asked."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        soft: SoftLabels | None,
        counts: bool,
        dtype: torch.dtype,
        learns: bool,
    ) -> tuple[Tensor, Tensor]:
        num_units = targets.shape[1]
        num_codes, total = len(weight) // num_units, targets.numel()
        precise = torch.float64 if dtype == torch.float64 else torch.float32
        table, offsets = weight.to(dtype), bias.to(dtype)
        wants = [learns and needed for needed in ctx.needs_input_grad[:3]]
        grads = [torch.empty_like(features) if wants[0] else None]
        for x, wanted in zip((weight, bias), wants[1:], strict=True):
            grads.append(torch.zeros_like(x, dtype=precise) if wanted else None)
        loss, hits = (features.new_zeros((), dtype=precise) for _ in range(2))
        rows = max(LEAST_ROWS, CHUNK_SCORES["cpu" if features.device.type == "cpu" else "cuda"] // len(weight))
        for start in range(0, len(features), rows):
            part = slice(start, start + rows)
            x, own = features[part].to(dtype), targets[part].flatten()
            scores = torch.addmm(offsets, x, table.t()).view(-1, num_codes)
            spread = (None, None) if soft is None else (soft.codes[own], soft.shares[own].to(precise))
            told = Told(own, smoothing, *spread)
            if counts:
                hits += (scores.argmax(1) == own).sum()
            log_p = torch.log_softmax(scores, 1, dtype=precise)
            loss += told.losses(log_p).sum()
            if not any(wants):
                continue
            by_score = told.subtract(log_p.exp_()).to(dtype).view(len(x), -1)
            add_gradients(grads, part, by_score, x, table)
        ctx.save_for_backward(*[grad for grad in grads if grad is not None])
        ctx.kinds, ctx.total = [x.dtype for x in (features, weight, bias)], total
        accuracy = hits / total
        ctx.mark_non_differentiable(accuracy)
        return loss / total, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor, by_hits: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        found = [
            (next(saved) * (by_loss / ctx.total)).to(kind) if wanted else None
            for kind, wanted in zip(ctx.kinds, ctx.needs_input_grad[:3], strict=True)
        ]
        return (*found, None, None, None, None, None, None)


def add_gradients(grads: list[Tensor | None], part: slice, by_score: Tensor, x: Tensor, table: Tensor) -> None:
    """Put a chunk's gradients [n,U*K] by its scores into those of features [N,W], weight [U*K,W] and bias [U*K]."""
    of_features, of_weight, of_bias = grads
    if of_features is not None:
        of_features[part] = by_score @ table
    if of_weight is not None:
        of_weight += by_score.t() @ x
    if of_bias is not None:
        of_bias += by_score.sum(0, dtype=of_bias.dtype)


def judge_codes(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    soft: SoftLabels | None = None,
    counts: bool = True,
) -> Judged:
    """`F.cross_entropy` of F.linear(features [N,W], weight [U*K,W], bias [U*K]) against targets int64 [N,U].

    smoothing as `label_smoothing` of torch's; `soft` spreads labels instead. counts: whether accuracy is wanted, which
    takes another look at all scores. Products are in the type of autocast, all else in float32; what the plain form
    gives, up to the order of sums.
    """
    kind = features.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype
    with torch.autocast(kind, enabled=False):
        given = (features, weight, bias, targets, smoothing, soft, counts, dtype)
        # asked here: within a Function nothing is recorded, and what needs a gradient does so in an evaluation too
        loss, accuracy = ChunkedCrossEntropy.apply(*given, torch.is_grad_enabled())
    return Judged(loss, accuracy if counts else None)
