"""How well neighbours in fixed features share a class: nothing is fitted, so it costs a fraction of a linear probe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.evaluation.linear_probe import check_together, checked_rows

CHUNK_VALUES = 1 << 25  # similarities that lie in memory at once: 128 MiB


@dataclass(frozen=True)
class KnnResult:
    """What the neighbours said of the test rows: top1 and top5 as shares (0 to 1)."""

    top1: float
    top5: float


@torch.inference_mode()
def knn_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    num_classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> KnnResult:
    """Score test rows by the classes of their k nearest train rows, weighted by exp(cosine / temperature).

    train_features [N, D] and test_features [M, D], any real type, on one device, where all the work is done in
    float32: exact, in chunks of test rows. train_labels [N] and test_labels [M] of integers below num_classes. top5
    counts the first min(5, num_classes) classes; one that no neighbour is of is never a hit, and of classes with
    equal votes the lower comes first. Raises ValueError for what cannot be scored. Source: DINO (Caron et al. 2021),
    appendix F, after Wu et al. 2018.
    """
    train_x, train_y = checked_rows("train", train_features, train_labels, num_classes)
    test_x, test_y = checked_rows("test", test_features, test_labels, num_classes)
    check_together(train_x, test_x)
    if not 1 <= k <= len(train_x):
        raise ValueError(f"k {k} of {len(train_x)} train rows; expected 1 to {len(train_x)}; change k or add rows")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature {temperature}; expected a number above 0; leave it out for 0.07")
    train_x, test_x = F.normalize(train_x, dim=1), F.normalize(test_x, dim=1)
    train_y, test_y = train_y.to(train_x.device), test_y.to(train_x.device)
    hits = torch.zeros(2, dtype=torch.int64, device=train_x.device)
    size = max(1, CHUNK_VALUES // max(len(train_x), num_classes))
    for x, y in zip(test_x.split(size), test_y.split(size), strict=True):
        rank = label_ranks(class_votes(x, train_x, train_y, num_classes, k, temperature), y)
        hits += torch.stack([rank < 1, rank < 5]).sum(dim=1)
    top1, top5 = (hits.double() / len(test_x)).tolist()
    return KnnResult(top1=top1, top5=top5)


def class_votes(x: Tensor, train_x: Tensor, train_y: Tensor, num_classes: int, k: int, temperature: float) -> Tensor:
    """Votes [B, C] of the k nearest of train_x [N, D] for x [B, D]; rows of both have length 1."""
    similarity, nearest = (x @ train_x.T).topk(k, dim=1)
    # Of the nearest, all weights are relative to: the same order, and no temperature can overflow.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    return x.new_zeros(len(x), num_classes).scatter_add_(1, train_y[nearest], weights)


def label_ranks(votes: Tensor, labels: Tensor) -> Tensor:
    """Place int64 [B] of each label [B] by its votes [B, C], 0 = first; beyond every place where it has none."""
    num_classes = votes.shape[1]
    own = votes.gather(1, labels[:, None])
    lower = torch.arange(num_classes, device=votes.device) < labels[:, None]
    rank = ((votes > own) | ((votes == own) & lower)).sum(dim=1)
    return torch.where(own[:, 0] > 0, rank, max(5, num_classes))
