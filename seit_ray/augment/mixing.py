"""CutMix and MixUp: a sample is mixed with its partner, and its loss is that of both labels, weighted.

The loss is weight * CE(labels) + (1 - weight) * CE(partner labels): no one-hot labels. Legend: B batch, h x w the
map's cells, T tries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import check_shares, global_draws, pair_draws

__all__ = ["MODES", "cutmix_share", "draw_beta", "draw_share", "mix_maps", "mixed_labels"]

MODES = ("batch", "pair")
TRIES = 8  # each is taken with a probability of 95 % and more


def mix_maps(maps: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Maps [B,D,h,w] with `share` [B,h,w] of themselves, cell by cell, and the rest of the partners', by index [B].

    CutMix is a share of 0 in the box and 1 elsewhere, exactly; MixUp one number for all cells of a sample.
    """
    return maps[partner].lerp_(maps, share.unsqueeze(1).to(maps.dtype))


def mixed_labels(labels: Tensor, partner: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels [B], partners' labels [B] and weight float32 [B] of the former, the mean of `share` [B,h,w].

    For CutMix that is the box's true area, which the grid's border and whole cells make differ from the drawn one.
    """
    return labels, labels[partner], share.float().mean(dim=(1, 2))


def cutmix_share(ratio: Tensor, centers: Tensor, size: tuple[int, int]) -> Tensor:
    """Share float32 [B,h,w]: 0 in a box of the part 1 - ratio [B] around a cell `centers` int64 [B,2], else 1.

    Sides are whole cells, rounded down, and are cut at the border (as in timm).
    """
    inside = []
    for axis, side in enumerate(size):
        # float64: the square root of a ratio in float32 rounds down a side that is just whole
        cut = ((1.0 - ratio.double()).clamp(min=0.0).sqrt() * side).long().unsqueeze(1)
        center = centers[:, axis : axis + 1]
        cells = torch.arange(side, device=ratio.device)
        inside.append((cells >= center - cut // 2) & (cells < center + (cut + 1) // 2))
    return (~(inside[0].unsqueeze(2) & inside[1].unsqueeze(1))).float()


def _log_gamma_draw(rng: StepRandom, alpha: float, stream: str) -> Tensor:
    """Logarithms [B] of Gamma(alpha) numbers, by Marsaglia and Tsang (2000); alpha + 1, then down, so any alpha."""
    d = alpha + 2.0 / 3.0
    x, u = rng.normal(f"{stream} normal", TRIES), rng.uniform(f"{stream} uniform", TRIES + 1)
    v = (1.0 + x / math.sqrt(9.0 * d)).clamp(min=1e-3) ** 3
    # 1 - u: in (0,1], so that the logarithms are finite
    accepted = (1.0 - u[:, :TRIES]).log() < 0.5 * x * x + d * (1.0 - v + v.log())
    chosen = v.gather(1, accepted.float().argmax(dim=1, keepdim=True)).squeeze(1)
    return math.log(d) + chosen.log() + (1.0 - u[:, TRIES]).log() / alpha


def draw_beta(rng: StepRandom, alpha: float, stream: str) -> Tensor:
    """Beta(alpha, alpha) numbers float32 [B] of the rows; alpha above 0."""
    first, second = (_log_gamma_draw(rng, alpha, f"{stream} {part}") for part in (1, 2))
    return torch.sigmoid(first - second)


def draw_share(
    rng: StepRandom,
    size: tuple[int, int],
    *,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    prob: float = 1.0,
    switch_prob: float = 0.5,
    mode: str = "batch",
    stream: str = "mix",
) -> Tensor:
    """How much of itself each cell of a sample keeps, float32 [B,h,w]: that of CutMix or MixUp, or 1 (not mixed).

    Mixed with probability `prob`; with both alphas above 0, by CutMix with probability `switch_prob`. mode "batch":
    one draw for the whole global batch, as in timm; "pair": one for each two neighbours. `stream` names the draw.
    Another mode, a negative alpha, both 0, and a probability outside [0,1] are ValueErrors. Source: CutMix (Yun et al.
    2019), MixUp (Zhang et al. 2018).
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}; expected one of {', '.join(MODES)}; choose one")
    if min(mixup_alpha, cutmix_alpha) < 0.0 or not max(mixup_alpha, cutmix_alpha) > 0.0:
        raise ValueError(
            f"mixup_alpha {mixup_alpha}, cutmix_alpha {cutmix_alpha}; expected 0 or more, and one above 0; do not mix "
            "to have none"
        )
    check_shares(prob=prob, switch_prob=switch_prob)
    draws = global_draws(rng, 1) if mode == "batch" else pair_draws(rng)
    u = draws.uniform(stream, 2)
    switch = switch_prob if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0.0)
    use_cutmix = (u[:, 1] < switch).view(-1, 1, 1)
    share = u.new_ones(len(u), *size)
    if mixup_alpha:
        share = draw_beta(draws, mixup_alpha, f"{stream} mixup").view(-1, 1, 1).expand(-1, *size)
    if cutmix_alpha:
        ratio = draw_beta(draws, cutmix_alpha, f"{stream} cutmix")
        centers = torch.stack([draws.integers(f"{stream} center {i}", side) for i, side in enumerate(size)], dim=1)
        share = torch.where(use_cutmix, cutmix_share(ratio, centers, size), share)
    return torch.where((u[:, 0] < prob).view(-1, 1, 1), share, 1.0).expand(len(rng.rows), *size)
