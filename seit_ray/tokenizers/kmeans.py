"""k-means of vectors: exact nearest centroid in matrix products, D^2 seeding, Lloyd with repair of empty clusters.

Shapes: N points, K centroids, D width. Everything runs on the device of the points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

CHUNK_VALUES = 1 << 22  # scores held at a time: rows of a chunk = this / K; stays in a CPU's cache reach


@dataclass
class KMeans:
    """What a fit gives: centroids [K,D] float32, objective (mean squared distance) an iteration, repairs."""

    centroids: Tensor
    objectives: list[float] = field(default_factory=list)
    repaired: int = 0


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Ids int64 [N] and squared distances float32 [N] of the nearest centroid, lowest id on ties.

    Exact whatever the device, thread count or batch: a float32 product proposes; rows whose best two lie
    closer than its rounding error are settled in float64.
    """
    origin = centroids.mean(0)  # distances keep, norms shrink: less cancellation in the float32 product
    c = centroids - origin
    half, longest = 0.5 * (c * c).sum(1), c.norm(dim=1).max()
    ids = torch.empty(len(points), dtype=torch.int64, device=points.device)
    distances = torch.empty(len(points), dtype=torch.float32, device=points.device)
    rows = max(64, CHUNK_VALUES // len(c))
    for start in range(0, len(points), rows):
        x = points[start : start + rows] - origin
        scores = torch.addmm(half, x, c.T, alpha=-1.0)  # |c|^2/2 - xc = (|x-c|^2 - |x|^2) / 2
        best, at = scores.min(1)
        norms = (x * x).sum(1)
        second = scores.scatter_(1, at[:, None], torch.inf).min(1).values
        close = (second - best <= rounding_error(norms.sqrt(), longest, c)).nonzero().squeeze(1)
        if len(close):
            at[close] = settle(points[start + close], centroids, origin)
        ids[start : start + rows] = at
        distances[start : start + rows] = (norms + 2 * best).clamp_(min=0)
    return ids, distances


def rounding_error(lengths: Tensor, longest: Tensor, vectors: Tensor) -> Tensor:
    """Bounds [N] on the error of scores of points of the given lengths [N], in the type of `vectors` [K,D]."""
    return 4 * vectors.shape[1] ** 0.5 * torch.finfo(vectors.dtype).eps * longest * (lengths + longest)


def settle(points: Tensor, centroids: Tensor, origin: Tensor) -> Tensor:
    """Ids int64 [N] in float64; what differs by less than even its rounding error is a tie: the lowest id."""
    x, c = points.double() - origin, centroids.double() - origin
    scores = torch.addmm(0.5 * (c * c).sum(1), x, c.T, alpha=-1.0)
    bound = rounding_error(x.norm(dim=1), c.norm(dim=1).max(), c)
    return (scores <= (scores.min(1).values + bound)[:, None]).to(torch.uint8).argmax(1)


def seed_centroids(points: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """K starting centroids [K,D] by D^2 sampling (k-means++), drawn in growing batches so that it stays a product.

    Each batch is an eighth of what is already chosen, so early draws, which matter most, are single.
    """
    chosen = points[torch.randint(len(points), (1,), generator=generator)]
    weights = (points - chosen).square().sum(1)
    while len(chosen) < num:
        batch = min(max(1, len(chosen) // 8), num - len(chosen))
        spread = weights if float(weights.sum()) > 0 else torch.ones_like(weights)
        batch = min(batch, int((spread > 0).sum()))
        # float64 on the CPU: torch's own multinomial is limited to 2^24 categories and differs by device
        cumulative = spread.double().cpu().cumsum(0)
        draws = torch.rand(batch, generator=generator, dtype=torch.float64) * cumulative[-1]
        picks = torch.searchsorted(cumulative, draws, right=True).clamp_(max=len(points) - 1).unique()
        new = points[picks.to(points.device)]
        chosen = torch.cat([chosen, new])
        weights = torch.minimum(weights, nearest(points, new)[1])
    return chosen[:num].clone()


def fit_kmeans(
    points: Tensor,
    num_centroids: int,
    *,
    iterations: int,
    seed: int,
    tolerance: float = 1e-4,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> KMeans:
    """Lloyd's k-means of float32 points [N,D]; stops early when the objective falls by less than `tolerance`.

    Deterministic for a seed on the CPU; sums on a GPU are added up in no fixed order. Fewer distinct points than
    centroids leave centroids without a point; fewer points than centroids are a ValueError.
    """
    if len(points) < num_centroids:
        raise ValueError(
            f"{len(points)} patches to fit {num_centroids} centroids; expected more patches than centroids; "
            "use more images or a smaller codebook_size"
        )
    generator = torch.Generator().manual_seed(seed)
    sample = points[torch.randperm(len(points), generator=generator)[: 32 * num_centroids].to(points.device)]
    result = KMeans(seed_centroids(sample, num_centroids, generator))
    for step in range(iterations):
        ids, distances = nearest(points, result.centroids)
        result.objectives.append(float(distances.double().mean()))
        result.centroids, repaired = update(points, ids, distances, result.centroids)
        result.repaired += repaired
        on_progress(step + 1, iterations)
        if step and not repaired:
            before, now = result.objectives[-2:]
            if before - now <= tolerance * before:
                break
    result.objectives.append(float(nearest(points, result.centroids)[1].double().mean()))
    return result


def update(points: Tensor, ids: Tensor, distances: Tensor, centroids: Tensor) -> tuple[Tensor, int]:
    """New centroids [K,D], and how many empty clusters were moved onto the points farthest from their own."""
    num = len(centroids)
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=points.device)
    for x, at in zip(points.split(1 << 16), ids.split(1 << 16), strict=True):
        sums.index_add_(0, at, x.double())
    counts = torch.bincount(ids, minlength=num)
    new = (sums / counts.clamp(min=1)[:, None]).float()
    empty = (counts == 0).nonzero().squeeze(1)
    if len(empty):
        far = distances.argsort(descending=True, stable=True)[: 8 * len(empty)]
        distinct = points[far].unique(dim=0)  # two empty clusters on equal points would leave one empty again
        distinct = distinct[nearest(distinct, new[counts > 0])[1].argsort(descending=True, stable=True)]
        usable = min(len(empty), len(distinct))
        new[empty[:usable]] = distinct[:usable]
        new[empty[usable:]] = centroids[empty[usable:]]
    return new, len(empty)
