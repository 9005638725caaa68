"""Muon: steps of matrices that are orthogonal, so that no direction of a matrix learns more slowly than the others.

Not torch.optim.Muon: it cannot leave out a step that is not finite without waiting for the device, and its products are
in bfloat16 everywhere, which on a CPU without it takes 17 times as long as in float32.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

MATRICES = "matrices"  # of a group: whether its steps are orthogonal
# Of a polynomial of degree 5 that, applied five times, brings singular values from 0.002 to 1 to between 0.68 and 1.21
LINEAR, CUBIC, QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS, EPS = 5, 1e-7
MOMENTUM = 0.95
RMS = 0.2  # of a step of AdamW at rate 1, about, which these are scaled to


class Matrix(NamedTuple):
    """A parameter, its group, and the direction of its step."""

    parameter: nn.Parameter
    group: dict[str, Any]
    direction: Tensor


class Muon(torch.optim.AdamW):
    """Fused AdamW, but for groups of `MATRICES`: these take steps of momentum, made orthogonal.

    They are as large as those of AdamW, so that rate and decay of AdamW fit (Liu et al. 2025, arXiv 2502.16982, section
    2.2). All workers compute them alike. With `found_inf` 1.0 nothing changes, as of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], *, betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=0.0, betas=betas, fused=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)  # AdamW's looks for what matrices do not keep

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient; those of the matrices are let go of."""
        skipped = getattr(self, "found_inf", None)
        by_shape: dict[tuple[int, ...], list[Matrix]] = defaultdict(list)
        for group in self.param_groups:
            for parameter in group["params"] if group[MATRICES] else ():
                if parameter.grad is not None:
                    direction = wide(self.moved(parameter, parameter.grad, skipped))
                    by_shape[direction.shape].append(Matrix(parameter, group, direction))
                    parameter.grad = None
        for some in by_shape.values():
            steps = orthogonalized(torch.stack([matrix.direction for matrix in some]))
            for matrix, step in zip(some, steps, strict=True):
                take(matrix, step, skipped)
        super().step(closure)

    def moved(self, parameter: nn.Parameter, gradient: Tensor, skipped: Tensor | None) -> Tensor:
        """Nesterov's direction, after the momentum has moved to the gradient."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        before = state["momentum"]
        now = before.lerp(gradient, 1 - MOMENTUM)
        before.copy_(now if skipped is None else torch.where(skipped > 0, before, now))
        return gradient.lerp(now, MOMENTUM)


def wide(matrix: Tensor) -> Tensor:
    """[M,N], or its transpose, so that M <= N."""
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix


def take(matrix: Matrix, step: Tensor, skipped: Tensor | None) -> None:
    """Decay and move a parameter by an orthogonal step [M,N] with M <= N."""
    parameter, rate = matrix.parameter, matrix.group["lr"]
    turned = step.to(parameter.dtype)
    turned = turned if parameter.shape == turned.shape else turned.mT
    change = parameter * (rate * matrix.group["weight_decay"]) + turned * (rate * RMS * math.sqrt(max(parameter.shape)))
    parameter.sub_(change if skipped is None else torch.where(skipped > 0, torch.zeros_like(change), change))


def orthogonalized(matrices: Tensor) -> Tensor:
    """About U V^T of matrices [B,M,N] = U S V^T with M <= N; in bfloat16 on a GPU, else in float32.

    By five iterations of Newton and Schulz (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural
    networks").
    """
    found = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    found = found / (found.norm(dim=(-2, -1), keepdim=True) + EPS)
    for _ in range(ITERATIONS):
        gram = found @ found.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=CUBIC, alpha=QUINTIC)
        found = torch.baddbmm(found, polynomial, found, beta=LINEAR)
    return found
