"""k-means of vectors: D^2 seeding, Lloyd's iterations with repair of empty clusters, over one or many parts.

Shapes: N points, K centroids, D width. The points lie in parts, each in one process on one device; only sums, counts
and the few farthest points leave a part. Sums of uint8 points are whole numbers, exact in float64, so that a fit does
not depend on how the points are divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seit_ray.progress import Progress, silent
from seit_ray.tokenizers.fit_numbers import check_patches
from seit_ray.tokenizers.points_part import EachPart, PointsPart, one_part
from seit_ray.tokenizers.search import nearest, search_for

SEEDS_FROM = 32  # points a centroid that the start is drawn from
TRIAL_ITERATIONS = 3


@dataclass
class KMeans:
    """What a fit gives: centroids float32 [K,D], mean squared distance an iteration, points of each, repairs."""

    centroids: Tensor
    objectives: list[float] = field(default_factory=list)
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    repaired: int = 0


def fit_kmeans(
    points: Tensor,
    num_centroids: int,
    *,
    iterations: int,
    seed: int,
    tolerance: float = 1e-4,
    on_progress: Progress = silent,
) -> KMeans:
    """Lloyd's k-means of points [N,D], float32 or uint8 that stand for 0 to 1, on their device.

    As `fit_kmeans_parts` of one part.
    """
    found = fit_kmeans_parts(
        one_part(PointsPart(points)),
        [len(points)],
        num_centroids,
        iterations=iterations,
        seed=seed,
        tolerance=tolerance,
        on_progress=on_progress,
        device=points.device,
    )
    found.centroids = found.centroids.to(points.device)
    return found


def fit_kmeans_parts(
    each: EachPart,
    sizes: Sequence[int],
    num_centroids: int,
    *,
    iterations: int,
    seed: int,
    tolerance: float = 1e-4,
    on_progress: Progress = silent,
    device: torch.device | str = "cpu",
) -> KMeans:
    """Lloyd's k-means of parts of `sizes` points; stops early when the objective falls by less than `tolerance`.

    A function of the points in their order and the seed, on CPUs; on GPUs points that are nearly as near to another
    centroid may go to that on the way, and sums of float32 points are added up in no fixed order. The start is chosen
    on `device`. Fewer distinct points than centroids leave centroids without a point; fewer points than centroids are a
    ValueError.
    """
    total = sum(sizes)
    check_patches(total, num_centroids)
    generator = torch.Generator().manual_seed(seed)
    order, number = torch.randperm(total, generator=generator), SEEDS_FROM * num_centroids
    sample = take_rows(each, sizes, order[:number]).to(device)
    other = take_rows(each, sizes, order[-number:]).to(device)  # overlaps where there are too few
    result = KMeans(choose_start(sample, other, num_centroids, generator))
    search = search_for(sample, result.centroids, origin=sample.mean(0))
    each("prepare", None if search.basis is None else search.basis.cpu(), search.origin.cpu())
    result.centroids = result.centroids.cpu()
    for step in range(iterations):
        sums, counts, objective = assign(each, result.centroids, total, roughly=True)
        result.objectives.append(objective)
        result.centroids, repaired = update(each, sums, counts, result.centroids)
        result.repaired += repaired
        on_progress("k-means", step + 1, iterations, f"iterations, mean squared distance {objective:.5f}")
        if step and not repaired:
            before, now = result.objectives[-2:]
            if before - now <= tolerance * before:
                break
    _, result.counts, objective = assign(each, result.centroids, total)
    result.objectives.append(objective)
    return result


def take_rows(each: EachPart, sizes: Sequence[int], rows: Tensor) -> Tensor:
    """float32 [n,D] of rows int64 [n], counted over all parts, in their order."""
    found = torch.cat(list(each("take", own_rows(sizes, rows))))
    part = torch.searchsorted(torch.tensor(sizes).cumsum(0), rows, right=True)
    return found[part.argsort(stable=True).argsort()]


def own_rows(sizes: Sequence[int], rows: Tensor) -> list[Tensor]:
    """Of each part, its own among rows int64 [n] that are counted over all parts; in their order."""
    ends = torch.tensor(sizes).cumsum(0)
    part = torch.searchsorted(ends, rows, right=True)
    return [rows[part == i] - (ends[i] - size) for i, size in enumerate(sizes)]


def assign(each: EachPart, centroids: Tensor, total: int, *, roughly: bool = False) -> tuple[Tensor, Tensor, float]:
    """Sums [K,D] and counts [K] over all parts, and the mean squared distance; see `PointsPart.assign`."""
    parts = each("assign", centroids, roughly)
    sums, counts = (torch.stack([part[i] for part in parts]).sum(0) for i in (0, 1))
    return sums, counts, sum(part[2] for part in parts) / total


def choose_start(sample: Tensor, other: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Starting centroids [K,D] among a sample [n,D]: random points, or D^2 sampling where it is better.

    Patches of photographs have no gaps between clusters, and random points, dense where the patches are dense, end
    lower than D^2 sampling, which favours outliers; where there are clusters, random points miss some. A few
    iterations on the sample, judged by other points, show which it is.
    """
    rows = [torch.randperm(len(sample), generator=generator)[:num], seed_rows(sample, num, generator)]
    starts = [sample[chosen.to(sample.device)] for chosen in rows]
    return min(starts, key=lambda start: trial_objective(sample, other, start))


def trial_objective(sample: Tensor, other: Tensor, centroids: Tensor) -> float:
    """The objective on other points after a few iterations on the sample."""
    search = search_for(sample, centroids, origin=sample.mean(0))
    fitted, judge = one_part(PointsPart(sample)), one_part(PointsPart(other))
    for each in (fitted, judge):
        each("prepare", search.basis, search.origin)
    for _ in range(TRIAL_ITERATIONS):
        sums, counts, _ = assign(fitted, centroids, len(sample), roughly=True)
        centroids, _ = update(fitted, sums, counts, centroids.cpu())
    return assign(judge, centroids, len(other), roughly=True)[2]


def seed_rows(points: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Rows int64 [K] of points [N,D] to start from, by D^2 sampling (k-means++).

    Drawn in growing batches, so that it stays a product.
    Each batch is an eighth of what is already chosen, so early draws, which matter most, are single.
    """
    points = points - points.mean(0)
    squares = points.square().sum(1)
    rounding = 4 * points.shape[1] ** 0.5 * torch.finfo(torch.float32).eps
    chosen = torch.randint(len(points), (1,), generator=generator).to(points.device)
    weights = torch.full_like(squares, torch.inf)
    new = chosen
    while True:
        distances = squares[:, None] + squares[new] - 2 * points @ points[new].T
        distances[distances <= rounding * (squares[:, None] + squares[new])] = 0  # equal points are not drawn again
        weights = torch.minimum(weights, distances.amin(1))
        if len(chosen) >= num:
            return chosen[:num]
        batch = min(max(1, len(chosen) // 8), num - len(chosen))
        spread = weights if float(weights.sum()) > 0 else torch.ones_like(weights)
        batch = min(batch, int((spread > 0).sum()))
        # float64: torch's own multinomial is limited to 2^24 categories
        cumulative = spread.double().cumsum(0)
        draws = torch.rand(batch, generator=generator, dtype=torch.float64).to(points.device) * cumulative[-1]
        new = torch.searchsorted(cumulative, draws, right=True).clamp_(max=len(points) - 1).unique()
        chosen = torch.cat([chosen, new])


def update(each: EachPart, sums: Tensor, counts: Tensor, centroids: Tensor) -> tuple[Tensor, int]:
    """New centroids [K,D], and how many empty clusters were moved onto the points farthest from their own."""
    new = (sums / counts.clamp(min=1)[:, None]).float()
    empty = (counts == 0).nonzero().squeeze(1)
    if len(empty):
        parts = each("farthest", 8 * len(empty))
        points, distances = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        far = distances.argsort(descending=True, stable=True)[: 8 * len(empty)]
        distinct = points[far].unique(dim=0)  # two empty clusters on equal points would leave one empty again
        distinct = distinct[nearest(distinct, new[counts > 0])[1].argsort(descending=True, stable=True)]
        usable = min(len(empty), len(distinct))
        new[empty[:usable]] = distinct[:usable]
        new[empty[usable:]] = centroids[empty[usable:]]
    return new, len(empty)
