"""A part of the points of a k-means fit, in one process on one device: what it is asked for, and how it is asked.

Shapes: N points, K centroids, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seit_ray.tokenizers.device_search import as_floats, search_roughly
from seit_ray.tokenizers.search import CentroidSearch


class PointsPart:
    """A part of the points of a fit: float32 [N,D], or uint8 that stand for 0 to 1."""

    def __init__(self, points: Tensor):
        self.points = points

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: Tensor) -> Tensor:
        """float32 [n,D] of rows int64 [n], on the CPU."""
        return as_floats(self.points[rows.to(self.points.device)]).cpu()

    def prepare(self, basis: Tensor | None, origin: Tensor) -> None:
        """Know the points in the directions [D,M] that all searches of a fit share."""
        device = self.points.device
        self.basis, self.origin = None if basis is None else basis.to(device), origin.to(device)
        search = CentroidSearch(self.origin[None], self.basis, origin=self.origin)
        self.coordinates = None if basis is None else search.coordinates(self.points)
        self.last: tuple[Tensor, Tensor] | None = None  # ids int64 [N] and sums of the assignment before

    def assign(self, centroids: Tensor, roughly: bool = False) -> tuple[Tensor, Tensor, float]:
        """Sums float64 [K,D] and counts int64 [K] of the points nearest to each centroid, summed squared distance.

        roughly: on a GPU, of centroids that are nearly as near any may be taken; a CPU has the exact ones sooner.
        """
        centroids = centroids.to(self.points.device)
        if roughly and self.points.device.type != "cpu":
            ids, self.distances = search_roughly(self.points, centroids, self.origin)
        else:
            search = CentroidSearch(centroids, self.basis, origin=self.origin)
            ids, self.distances = search(self.points, self.coordinates)
        if self.last is None:
            before, sums = None, torch.zeros(centroids.shape, dtype=torch.float64, device=centroids.device)
            moved = torch.arange(len(ids), device=centroids.device)
        else:  # most points stay where they are
            before, sums = self.last
            moved = (before != ids).nonzero().squeeze(1)
        for rows in moved.split(1 << 14):
            values = self.points[rows].double()
            sums.index_add_(0, ids[rows], values)
            if before is not None:
                sums.index_add_(0, before[rows], values, alpha=-1)
        self.last = ids, sums
        counts = torch.bincount(ids, minlength=len(centroids))
        scale = 255 if self.points.dtype == torch.uint8 else 1
        return (sums / scale).cpu(), counts.cpu(), float(self.distances.double().sum())

    def farthest(self, num: int) -> tuple[Tensor, Tensor]:
        """The points float32 [n,D] farthest from their centroids and their squared distances [n], on the CPU."""
        far = self.distances.argsort(descending=True, stable=True)[:num]
        return self.take(far), self.distances[far].cpu()


# (name of a method, arguments: the same for all, or a list of one for each part) -> what each part returns
EachPart = Callable[..., Sequence[Any]]


def one_part(part: PointsPart) -> EachPart:
    """A single part, in this process."""
    return lambda name, *arguments: [getattr(part, name)(*(x[0] if isinstance(x, list) else x for x in arguments))]
