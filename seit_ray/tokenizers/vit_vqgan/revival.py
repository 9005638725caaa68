"""Code statistics and new rows for unused codes, equal on every rank and without waiting for the device.

Shapes: N vectors of this rank, K codes, D width, M candidates.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

__all__ = ["code_statistics", "draw_candidates", "num_ranks", "perplexity", "refill_rows"]


def num_ranks() -> int:
    """Processes that train together; 1 where no process group is."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def code_statistics(vectors: Tensor, codes: Tensor, num_codes: int, *, all_ranks: bool) -> tuple[Tensor, Tensor]:
    """Vectors that took each code [K], and the sum of them, normalised, [K,D]; float32, over all ranks if asked."""
    rows = F.normalize(vectors.detach().float().flatten(0, -2), dim=1)
    table = rows.new_zeros(num_codes, 1 + rows.shape[1])
    # Not bincount: on a GPU it waits for the largest code.
    table.index_add_(0, codes.flatten(), torch.cat([rows.new_ones(len(rows), 1), rows], dim=1))
    if all_ranks and num_ranks() > 1:
        dist.all_reduce(table)
    return table[:, 0], table[:, 1:]


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of code counts [K], scalar: K when all are used alike, 1 when one is."""
    shares = counts / counts.sum()
    return torch.special.entr(shares).sum().exp()


def draw_candidates(vectors: Tensor, priority: Tensor, num: int) -> Tensor:
    """At most `num` of all ranks' vectors, normalised, [M,D] float32: those of lowest priority, in that order.

    vectors [...,D] and priority [...] are this rank's, as many on each; the result does not depend on how rows are
    split over ranks.
    """
    rows = F.normalize(vectors.detach().float().flatten(0, -2), dim=1)
    found = lowest(torch.cat([priority.reshape(-1, 1), rows], dim=1), num)
    if num_ranks() > 1:
        gathered = found.new_empty(num_ranks() * len(found), found.shape[1])
        dist.all_gather_into_tensor(gathered, found)
        found = lowest(gathered, num)
    return found[:, 1:]


def lowest(table: Tensor, num: int) -> Tensor:
    """The `num` rows of lowest first value, lowest first, in order of rows where those are equal."""
    return table[table[:, 0].argsort(stable=True)[:num]]


def refill_rows(rows: Tensor, dead: Tensor, candidates: Tensor) -> Tensor:
    """Rows [K,D] in which the first M dead codes [K] (bool) got the candidates [M,D], one each."""
    place = dead.cumsum(0) - 1
    taken = candidates[place.clamp(0, len(candidates) - 1)].to(rows.dtype)
    return torch.where((dead & (place < len(candidates)))[:, None], taken, rows)
