"""Which classes a classifier takes for which. C classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


@torch.inference_mode()
def confusion_counts(
    model: nn.Module, tokens: Tensor, labels: Tensor, num_classes: int, batch_size: int = 512
) -> np.ndarray:
    """int64 [C,C]: images of the row's class [N] that the model takes for the column's, from tokens [N,L]."""
    model.eval()
    taken = torch.cat([model(part).argmax(1) for part in tokens.split(batch_size)])
    return np.bincount((labels * num_classes + taken).numpy(), minlength=num_classes**2).reshape(num_classes, -1)


def most_taken_for(counts: np.ndarray) -> list[tuple[int, int] | None]:
    """For each class of counts [C,C], the other class that it is taken for most often and how often; None for never."""
    others = counts.copy()
    np.fill_diagonal(others, 0)
    return [(int(row.argmax()), int(row.max())) if row.any() else None for row in others]
