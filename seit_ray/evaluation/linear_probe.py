"""How much a linear classifier finds in fixed features: raw pixels, or those of a frozen model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# From strong to weak, so that each fit starts from the smoother solution before it.
L2_GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
# Enough to rank the grid (measured on pixels of Fashion-MNIST and CIFAR-10); the last fit gets them all.
GRID_ITERATIONS = 15

Fitted = tuple[Tensor, Tensor]  # weights [C, D], bias [C]


@dataclass(frozen=True)
class ProbeResult:
    """What a linear probe reached on the test rows: top1 and top5 as shares (0 to 1), and the l2 it used."""

    top1: float
    top5: float
    l2: float


@torch.inference_mode(False)
@torch.enable_grad()
def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    num_classes: int,
    *,
    l2: float | Literal["auto"] = "auto",
    max_iterations: int = 50,
    seed: int = 0,
) -> ProbeResult:
    """Fit a multinomial logistic regression by full-batch L-BFGS and score it on the test rows.

    train_features [N, D] and test_features [M, D], any real type, on one device, where all the work is done
    in float32; train_labels [N] and test_labels [M] of integers below num_classes. Mean cross-entropy plus
    l2/2 times the squared weights of the standardised columns is minimised; the bias is free. l2="auto" takes
    the best of L2_GRID on a tenth of the training rows, drawn with the seed, then fits on all of them. top5
    counts the first min(5, num_classes) classes. Raises ValueError for what cannot be fitted.
    """
    train_x, train_y = checked_rows("train", train_features, train_labels, num_classes)
    test_x, test_y = checked_rows("test", test_features, test_labels, num_classes)
    check_together(train_x, test_x)
    _check_fit(train_y, l2, max_iterations)
    train_y, test_y = train_y.to(train_x.device), test_y.to(train_x.device)
    shift, scale = _column_statistics(train_x)
    train_x, test_x = (train_x - shift) / scale, (test_x - shift) / scale
    width = train_x.shape[1]
    start = (train_x.new_zeros(num_classes, width), train_x.new_zeros(num_classes))
    if l2 == "auto":
        l2, start = _choose_l2(train_x, train_y, start, max_iterations, seed)
    weights, bias = _fit(train_x, train_y, start, l2, max_iterations)
    top1, top5 = _top_k(_logits(test_x, weights, bias), test_y, (1, 5))
    return ProbeResult(top1=top1, top5=top5, l2=float(l2))


def checked_rows(which: str, features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """features as float32 [N, D] and labels as int64 [N], or a ValueError that names the wrong one."""
    features = torch.as_tensor(features).detach()
    labels = torch.as_tensor(labels).detach()
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"{which} features of shape {tuple(features.shape)}; expected [N, D] without empty sides; "
            "flatten each sample to one row"
        )
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{which} labels of shape {tuple(labels.shape)} for {features.shape[0]} feature rows; "
            "expected one label a row; pass both from the same samples"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"{which} labels of type {labels.dtype}; expected integers; pass class indices")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{which} labels from {low} to {high}; expected 0 to {num_classes - 1}; "
            "drop unlabelled rows or raise num_classes"
        )
    features = features.float()
    if not bool(torch.isfinite(features).all()):
        raise ValueError(f"{which} features with NaN or infinity; expected finite numbers; drop such rows")
    # A copy, since labels made under torch.inference_mode cannot take part in a backward pass.
    return features, labels.long().clone()


def check_together(train_x: Tensor, test_x: Tensor) -> None:
    """ValueError unless train and test features are of one width, on one device."""
    if train_x.shape[1] != test_x.shape[1]:
        raise ValueError(
            f"train features of width {train_x.shape[1]} and test features of width {test_x.shape[1]}; "
            "expected one width; take both from the same model"
        )
    if train_x.device != test_x.device:
        raise ValueError(
            f"train features on {train_x.device} and test features on {test_x.device}; "
            "expected one device; move one of them"
        )


def _check_fit(train_y: Tensor, l2: float | str, max_iterations: int) -> None:
    """ValueError unless there are two classes to tell apart, and usable settings."""
    num_present = len(train_y.unique())
    if num_present < 2:
        raise ValueError(f"train labels of {num_present} class; expected at least 2; add rows of another class")
    if l2 != "auto" and (isinstance(l2, str) or not 0 <= l2 < float("inf")):
        raise ValueError(f"l2 {l2!r}; expected a number of at least 0 or 'auto'; try l2='auto'")
    if max_iterations < 1:
        raise ValueError(f"max_iterations {max_iterations}; expected at least 1; leave it out for 50")


def _column_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and deviation [D] of the columns of x [N, D]; deviation 1 where a column is constant."""
    mean = x.mean(dim=0)
    std = x.std(dim=0, correction=0)
    # Rounding leaves a constant column a tiny deviation; dividing by it would blow noise up to unit size.
    constant = std <= 1e-6 * mean.abs().clamp(min=1e-6)
    return mean, torch.where(constant, torch.ones_like(std), std)


def _logits(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """x [N, D], weights [C, D], bias [C] -> [N, C]."""
    # With few classes, BLAS does [C, D] @ [D, N] and its gradient several times faster than the transposes.
    return torch.addmm(bias[:, None], weights, x.t()).t()


def _fit(x: Tensor, y: Tensor, start: Fitted, l2: float, max_iterations: int) -> Fitted:
    """The weights and bias that minimise the penalised mean cross-entropy on x [N, D], y [N]."""
    weights, bias = (part.clone().requires_grad_() for part in start)
    optimizer = torch.optim.LBFGS(
        [weights, bias],
        max_iter=max_iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(_logits(x, weights, bias), y) + 0.5 * l2 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach(), bias.detach()


def _choose_l2(x: Tensor, y: Tensor, start: Fitted, max_iterations: int, seed: int) -> tuple[float, Fitted]:
    """The l2 of the grid with the lowest held-out cross-entropy, and the weights fitted with it."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    held_out, kept = order.tensor_split([max(1, len(x) // 10)])
    fit_x, fit_y, held_x, held_y = x[kept], y[kept], x[held_out], y[held_out]
    best_loss, best_l2, best = float("inf"), L2_GRID[0], start
    fitted = start
    for l2 in L2_GRID:
        fitted = _fit(fit_x, fit_y, fitted, l2, min(max_iterations, GRID_ITERATIONS))
        loss = float(F.cross_entropy(_logits(held_x, *fitted), held_y))
        if loss >= best_loss:
            break  # weaker ones over-fit more: the held-out loss has one valley along the grid
        best_loss, best_l2, best = loss, l2, fitted
    return best_l2, best


def _top_k(logits: Tensor, labels: Tensor, ks: tuple[int, ...]) -> tuple[float, ...]:
    """For each k, the fraction of rows whose label is among the k highest of logits [N, C]."""
    ranked = logits.topk(min(max(ks), logits.shape[1]), dim=1).indices
    hits = ranked == labels[:, None]
    return tuple(float(hits[:, :k].any(dim=1).double().mean()) for k in ks)
