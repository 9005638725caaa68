"""Token-EDA: a sample's tokens are partly replaced by synonyms, or have two squares exchanged, or stay (SeiT).

Legend: B batch, L = h*w tokens in raster order, S synonyms a code, T tries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import change_rows, check_shares
from seit_ray.augment.synonyms import replace_synonyms

__all__ = ["MAX_SIDE", "draw_squares", "random_swap", "swap_squares", "token_eda"]

MAX_SIDE = 0.25  # a square's side stays below this share of the grid's shorter side
TRIES = 16


def swap_squares(tokens: Tensor, grid: tuple[int, int], sides: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Tokens [B,L] with two squares of `sides` [B] exchanged, given their corners (y, x), int64 [B,2].

    Both are read from the original. Where they overlap, what is written to the second stays. A side of 0 changes
    nothing; squares must lie within the grid. Tokens of another length than the grid's are a ValueError.
    """
    height, width = grid
    if tokens.shape[1] != height * width:
        raise ValueError(
            f"{tokens.shape[1]} tokens a sample for a grid of {height}x{width}; expected {height * width}; take the "
            "dataset's own grid"
        )
    y = torch.arange(height, device=tokens.device).view(1, -1, 1)
    x = torch.arange(width, device=tokens.device).view(1, 1, -1)

    def inside(corner: Tensor) -> Tensor:
        dy, dx = y - corner[:, 0].view(-1, 1, 1), x - corner[:, 1].view(-1, 1, 1)
        side = sides.view(-1, 1, 1)
        return (dy >= 0) & (dy < side) & (dx >= 0) & (dx < side)

    moved = second - first
    shift = (moved[:, 0] * width + moved[:, 1]).view(-1, 1, 1)
    move = torch.where(inside(second), -shift, torch.where(inside(first), shift, 0))
    return tokens.gather(1, (y * width + x + move).flatten(1))


def draw_squares(
    rng: StepRandom, grid: tuple[int, int], *, reference: bool = False, tries: int = TRIES
) -> tuple[Tensor, Tensor, Tensor]:
    """Sides [B] and first and second corners [B,2] of squares to exchange, farther apart than their side.

    Sides are 1 and up, below a quarter of the shorter side of the grid, all equally likely, and corners reach every
    row and column. reference=True: the published draw int(n * U(0, 0.25)), in which one side in eight (n = 32) is 0,
    and the last row and column are never reached. The pair of corners is the first of `tries` that is far enough
    apart; where none is (tiny grids), the side becomes 0: no exchange. Published code draws without end.
    """
    shortest = min(grid)
    if reference:
        sides = (rng.uniform("swap side") * (MAX_SIDE * shortest)).long()
    else:
        sides = 1 + rng.integers("swap side", max(1, math.ceil(MAX_SIDE * shortest) - 1))
    room = torch.stack([side - sides + (0 if reference else 1) for side in grid], dim=1).clamp(min=1)  # [B,2]
    u = rng.uniform("swap corners", tries, 2, 2)
    corners = (u * room.view(-1, 1, 1, 2)).long()
    corners = corners.minimum(room.view(-1, 1, 1, 2) - 1)  # u is below 1, but its product may round up
    distance = (corners[:, :, 0] - corners[:, :, 1]).square().sum(2)
    far = distance > sides.square().unsqueeze(1)
    chosen = far.float().argmax(dim=1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    first, second = corners.gather(1, chosen).squeeze(1).unbind(1)
    return torch.where(far.any(dim=1), sides, 0), first, second


def random_swap(tokens: Tensor, grid: tuple[int, int], rng: StepRandom, *, reference: bool = False) -> Tensor:
    """Tokens [B,L] with two random squares of each sample exchanged (`draw_squares`)."""
    return swap_squares(tokens, grid, *draw_squares(rng, grid, reference=reference))


def token_eda(
    tokens: Tensor,
    grid: tuple[int, int],
    synonyms: Tensor | None,
    rng: StepRandom,
    *,
    synonym_prob: float = 0.25,
    swap_prob: float = 0.25,
    synonym_share: float = 0.25,
    reference: bool = False,
) -> Tensor:
    """Tokens [B,L]; each sample has synonyms (w.p. synonym_prob), or squares exchanged (swap_prob), or stays.

    Within a sample that has synonyms, each token is replaced with probability `synonym_share` by one of the
    `synonyms` [K,S] of its code; they may be None where synonym_prob is 0. reference: see `draw_squares`.
    Probabilities outside [0,1] or above 1 together are ValueErrors. Source: SeiT, Token-EDA.
    """
    check_shares(
        synonym_prob=synonym_prob, swap_prob=swap_prob, both=synonym_prob + swap_prob, synonym_share=synonym_share
    )
    kind = rng.uniform("token eda")
    out = tokens
    if synonym_prob:
        if synonyms is None:
            raise ValueError(
                f"synonyms None with synonym_prob {synonym_prob}; expected int64 [K,S]; make them of the codebook"
            )
        out = change_rows(out, kind < synonym_prob, rng, lambda t, r: replace_synonyms(t, synonyms, synonym_share, r))
    if swap_prob:
        swapped = (kind >= synonym_prob) & (kind < synonym_prob + swap_prob)
        out = change_rows(out, swapped, rng, lambda t, r: random_swap(t, grid, r, reference=reference))
    return out
