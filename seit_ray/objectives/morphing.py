"""Token morphing as pure functions: schedules, groups of alike tokens, means over groups (DTM).

Legend: B rows, T tokens of D values, n groups, t tokens or groups at some iteration, K codes, U codes a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.augment.target_numbers import check_merges

__all__ = [
    "DISTANCES",
    "PROTECTS",
    "SPLITS",
    "Groups",
    "Schedule",
    "distance",
    "draw_schedules",
    "group_means",
    "grouped_losses",
    "iteration_size",
    "merge_alike",
    "morph_loss",
    "standardised_tokens",
]

SPLITS = ("parity", "random")
PROTECTS = ("none", "first")
DISTANCES = ("smooth_l1", "l1", "l2", "cosine")
BETA = 2.0  # of smooth_l1


@dataclass(frozen=True)
class Schedule:
    """How tokens are merged: so many iterations, in each of which so many go into others."""

    iterations: int
    merged: int


@dataclass(frozen=True)
class Groups:
    """Group of every token int64 [B,T], 0 to num - 1, in the order in which merging left them."""

    ids: Tensor
    num: int


def iteration_size(removed: int, iterations: int, num_tokens: int) -> int:
    """Tokens that an iteration merges, so that `removed` are in all: rounded up, or down where that is too many."""
    size = math.ceil(removed / iterations)
    return size if size * iterations <= num_tokens else removed // iterations


def draw_schedules(
    rng: StepRandom, num_tokens: int, *, levels: int = 2, max_removed: int | None = None, max_iterations: int = 14
) -> list[Schedule]:
    """A schedule a level, one draw for the whole global batch: N of 0 to `max_removed` (all), k of 1 to most.

    Source: DTM, section 3.3 (dynamic scheduling).
    """
    most = check_merges(levels, max_removed, max_iterations, num_tokens)
    schedules = []
    for level in range(levels):
        removed = int(rng.number(f"morph removed {level}") * (most + 1))
        iterations = 1 + int(rng.number(f"morph iterations {level}") * max_iterations)
        schedules.append(Schedule(iterations, iteration_size(removed, iterations, num_tokens)))
    return schedules


@torch.no_grad()
def merge_alike(
    features: Tensor,
    schedule: Schedule,
    *,
    split: str = "parity",
    protect: str = "none",
    rng: StepRandom | None = None,
    stream: str = "morph split",
) -> Groups:
    """Groups of tokens [B,T,D] that are alike, without gradient, in float32.

    In each iteration the tokens are split into A and B, by place (`parity`: even, odd) or at random (`random`, which
    needs `rng`); each of A proposes to join the token of B whose cosine is highest; the best `schedule.merged`
    proposals are taken, and a merged token is the mean of what it holds. `protect="first"` keeps position 0 alone, as
    published, where it was taken for a class token. An unknown split or protect is a ValueError. Source: DTM,
    algorithm 1; ToMe (Bolya et al., arXiv 2210.09461), section 3.
    """
    if split not in SPLITS or protect not in PROTECTS or (split == "random" and rng is None):
        raise ValueError(
            f"split {split!r}, protect {protect!r}; expected one of {', '.join(SPLITS)} (random with random numbers), "
            f"and one of {', '.join(PROTECTS)}; choose"
        )
    with torch.autocast(features.device.type, enabled=False):
        means = features.float()
        batch, num_tokens, _ = means.shape
        ids = torch.arange(num_tokens, device=means.device).expand(batch, -1)
        sizes = means.new_ones(batch, num_tokens, 1)
        for iteration in range(schedule.iterations):
            count = means.shape[1]
            merged = min(schedule.merged, (count - (protect == "first")) // 2)
            if merged < 1:
                break
            noise = rng.uniform(f"{stream} {iteration}", count) if rng is not None and split == "random" else None
            places = merge_once(means, merged, noise, protect == "first")
            ids = places.gather(1, ids)
            means, sizes = means_of(means, sizes, places, count - merged)
    return Groups(ids, means.shape[1])


def merge_once(means: Tensor, merged: int, noise: Tensor | None, protects: bool) -> Tensor:
    """New place int64 [B,t] of every token [B,t,D]: first those of A that stay, in their order, then all of B."""
    batch, count, _ = means.shape
    num_a = (count + 1) // 2
    if noise is None:
        order = torch.arange(count, device=means.device)
        order = torch.cat([order[::2], order[1::2]]).expand(batch, -1)
    else:
        if protects:
            noise = noise.index_fill(1, torch.zeros(1, dtype=torch.int64, device=noise.device), -1.0)
        shuffled = noise.argsort(dim=1)
        order = torch.cat([shuffled[:, :num_a].sort(dim=1).values, shuffled[:, num_a:].sort(dim=1).values], dim=1)
    units = F.normalize(means, dim=2)
    a, b = (units.gather(1, part.unsqueeze(2).expand(-1, -1, units.shape[2])) for part in order.split(num_a, dim=1))
    best, partner = (a @ b.transpose(1, 2)).max(dim=2)
    if protects:  # position 0 is the first of A
        best[:, 0] = -torch.inf
    proposers = best.argsort(dim=1, descending=True, stable=True)[:, :merged]
    leaves = torch.zeros_like(best, dtype=torch.bool).scatter_(1, proposers, True)
    stays = (~leaves).cumsum(1) - 1
    first_b = num_a - merged
    place_a = torch.where(leaves, first_b + partner, stays)
    place_b = torch.arange(first_b, count - merged, device=means.device).expand(batch, -1)
    return torch.empty_like(order).scatter_(1, order, torch.cat([place_a, place_b], dim=1))


def means_of(means: Tensor, sizes: Tensor, places: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Means [B,n,D] and sizes [B,n,1] of tokens that come together at places [B,t]."""
    batch, _, width = means.shape
    index = places.unsqueeze(2)
    total = sizes.new_zeros(batch, num, 1).scatter_add_(1, index, sizes)
    summed = means.new_zeros(batch, num, width).scatter_add_(1, index.expand_as(means), means * sizes)
    return summed / total, total


def group_means(values: Tensor, groups: Groups) -> Tensor:
    """Every token of [B,T,D] replaced by the mean of its group; differentiable, in float32."""
    values = values.float()
    index = groups.ids.unsqueeze(2).expand_as(values)
    batch, _, width = values.shape
    sums = values.new_zeros(batch, groups.num, width).scatter_add(1, index, values)
    counts = values.new_zeros(batch, groups.num).scatter_add(1, groups.ids, torch.ones_like(values[..., 0]))
    return (sums / counts.unsqueeze(2)).gather(1, index)


def standardised_tokens(values: Tensor) -> Tensor:
    """Tokens [B,T,D], each with mean 0 and unbiased variance 1, as published with `normalize_target`."""
    mean, variance = values.mean(dim=2, keepdim=True), values.var(dim=2, keepdim=True)
    return (values - mean) / (variance + 1e-6).sqrt()


def distance(values: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Mean distance of tokens [B,T,D]: over channels, tokens and rows; of "cosine", 1 - cosine over tokens and rows."""
    if kind == "smooth_l1":
        return F.smooth_l1_loss(values, targets, beta=BETA)
    if kind == "l1":
        return F.l1_loss(values, targets)
    if kind == "l2":
        return F.mse_loss(values, targets)
    if kind == "cosine":
        return 1 - F.cosine_similarity(values, targets, dim=2).mean()
    raise ValueError(f"distance {kind!r}; expected one of {', '.join(DISTANCES)}; choose one")


def morph_loss(
    values: Tensor,
    targets: Tensor,
    levels: Sequence[Groups],
    kind: str = "smooth_l1",
    *,
    normalize_target: bool = False,
) -> Tensor:
    """Distance of group means of predicted features [B,T,D] and of targets [B,T,D], mean over the levels.

    `normalize_target` standardises the means of the targets. Source: DTM, equation 5.
    """
    losses = []
    for groups in levels:
        aims = group_means(targets, groups)
        losses.append(
            distance(group_means(values, groups), standardised_tokens(aims) if normalize_target else aims, kind)
        )
    return torch.stack(losses).mean()


def grouped_losses(scores: Tensor, codes: Tensor, groups: Groups) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies of scores [B,T,U,K] and codes [B,T,U]: of each by itself, of histograms, of morphed labels.

    The second is the mean over groups, weighted by size, of the cross-entropy between the bag of the group's codes and
    the mean of its predicted probabilities; the third that of every position against the bag of its group. The U
    places within a token are grouped each for itself, so that without merges all three are the same. No histogram is
    made: a sum over a group's bag is a sum over its members.
    """
    log_p = scores.float().log_softmax(dim=3)
    batch, tokens, places, num_codes = log_p.shape
    index = codes.unsqueeze(3)
    plain = -log_p.gather(3, index).mean()
    flat = log_p.flatten(2)
    shape = (batch, tokens, places, num_codes)
    bags = -group_means(flat.exp(), groups).view(shape).gather(3, index).clamp(min=1e-30).log().mean()
    soft = -group_means(flat, groups).view(shape).gather(3, index).mean()
    return plain, bags, soft
