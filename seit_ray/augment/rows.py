"""Rows of a batch: who is whose partner, who goes which way, and changing only some of them. B rows of this rank.

Everything follows from the row's number in the global batch, so that it is the same however the batch is split, as
long as it is split between pairs (rows 0 and 1, 2 and 3, ...).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from seit_ray.augment.random import StepRandom

__all__ = ["change_rows", "check_shares", "global_draws", "pair_draws", "partners", "split_pairs"]


def partners(rows: Tensor) -> Tensor:
    """Local index int64 [B] of each row's partner, given the rows' numbers [B] in the global batch, rising.

    The partner of row i is row i^1; a row whose partner is not among them (the last of an odd batch, a pair cut in
    two) is its own.
    """
    local = torch.arange(len(rows), device=rows.device)
    if not len(rows):
        return local
    other = (local + 1 - 2 * (rows & 1)).clamp(0, len(rows) - 1)
    return torch.where(rows[other] == rows ^ 1, other, local)


def pair_draws(rng: StepRandom) -> StepRandom:
    """The random numbers of each row's pair: both rows of a pair draw the same."""
    return rng.at(rng.rows & ~1)


def global_draws(rng: StepRandom, num: int | None = None) -> StepRandom:
    """Random numbers that all rows of the global batch share, `num` times; None: once for each row of this rank."""
    return rng.at(rng.rows.new_zeros(len(rng.rows) if num is None else num))


@functools.lru_cache(maxsize=64)
def _split(rows: Sequence[int], share: float, device: torch.device) -> tuple[Tensor, Tensor]:
    pairs = np.asarray(rows, np.int64) // 2
    chosen = np.floor((pairs + 1) * share) > np.floor(pairs * share)
    stay, go = (torch.from_numpy(np.flatnonzero(mask)).to(device, non_blocking=True) for mask in (~chosen, chosen))
    return stay, go


def split_pairs(rng: StepRandom, share: float) -> tuple[Tensor, Tensor]:
    """Local indices of the rows that stay and of those of an even `share` of the pairs (every second for 0.5).

    Known on the host, so that both parts have sizes that the device is not asked for.
    """
    return _split(rng.host_rows(), share, rng.rows.device)


def change_rows(
    values: Tensor, chosen: Tensor, rng: StepRandom, change: Callable[[Tensor, StepRandom], Tensor]
) -> Tensor:
    """`values` [B,...] with change(rows, their random numbers) in the rows that are `chosen` (bool [B]).

    `change` treats each row by itself. The CPU computes the chosen rows only; elsewhere, where asking which they are
    would wait for the device, all are computed and the chosen ones taken.
    """
    if values.device.type != "cpu":
        mask = chosen.view(-1, *(1,) * (values.ndim - 1))
        return torch.where(mask, change(values, rng), values)
    index = chosen.nonzero().squeeze(1)
    out = values.clone()
    out[index] = change(values[index], rng.at(rng.rows[index]))
    return out


def check_shares(**shares: float) -> None:
    """ValueError for a probability or share outside [0,1]."""
    for name, value in shares.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} {value}; expected 0 to 1; it is a share of all samples")
