"""Exact search of the nearest centroid on a GPU: whole scores in float64, and no step of it waits for the device.

Shapes: N points, K centroids, D width. Bounds pay on a CPU, where what they leave can be picked out. To pick out means
to ask the device how much there is, and a training would wait for that in every step: here all scores are computed,
in products as large as the device likes them. In float64 there are no near ties left to settle.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_SCORES = 1 << 25  # held at a time, 256 MiB


def search_on_device(points: Tensor, centroids: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Ids int64 [N], lowest on ties, and squared distances float32 [N] of points [N,D]; as `CentroidSearch`.

    points: float32, or uint8 that stand for 0 to 1. The origin [D] is taken from both, which makes rounding least.
    What differs by less than the rounding error of float64 is a tie.
    """
    c = centroids.double() - origin
    half_squares = 0.5 * c.square().sum(1)
    longest = c.norm(dim=1).max()
    error = 4 * c.shape[1] ** 0.5 * torch.finfo(torch.float64).eps * longest
    ids, distances = [], []
    for part in points.split(max(1, CHUNK_SCORES // len(centroids))):
        x = as_floats(part).double() - origin
        scores = torch.addmm(-half_squares, x, c.T)  # x.c - |c|^2/2 is largest where |x-c|^2 is least
        best = scores.amax(1)
        squares = x.square().sum(1)
        bound = error * (longest + squares.sqrt())
        ids.append((scores >= (best - bound)[:, None]).to(torch.uint8).argmax(1))
        distances.append((squares - 2 * best).clamp_(min=0).float())
    return torch.cat(ids), torch.cat(distances)


def search_roughly(points: Tensor, centroids: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """As `search_on_device`, by products in TF32: of centroids that are nearly as near, any may be taken.

    What k-means goes by on its way; what it ends with is sought exactly. float64 has a sixth of the rate on the chips
    that have it at all.
    """
    c = centroids - origin
    half_squares = 0.5 * c.square().sum(1)
    ids, distances, before = [], [], torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        for part in points.split(max(1, 2 * CHUNK_SCORES // len(centroids))):
            x = as_floats(part) - origin
            best, nearest = torch.addmm(-half_squares, x, c.T).max(1)
            ids.append(nearest)
            distances.append((x.square().sum(1) - 2 * best).clamp_(min=0))
    finally:
        torch.set_float32_matmul_precision(before)
    return torch.cat(ids), torch.cat(distances)


def as_floats(points: Tensor) -> Tensor:
    """float32 of points, where uint8 stand for 0 to 1."""
    return points.float() / 255 if points.dtype == torch.uint8 else points.float()
