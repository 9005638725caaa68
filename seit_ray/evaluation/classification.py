"""Top-1, top-5, cross-entropy and per-class accuracy of a classifier on a labelled split. C classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from seit_ray.batches.contract import Samples
from seit_ray.evaluation.batches import eval_batches
from seit_ray.evaluation.standard_error import error_of
from seit_ray.training.world import World

View = Callable[[torch.Tensor], torch.Tensor]  # of the inputs of a batch


def class_counts(model: nn.Module, store: Samples, num_classes: int, world: World, batch_size: int) -> torch.Tensor:
    """Sums over the split and all ranks, float64 [C,4] by true class: samples, top-1 hits, top-5 hits, loss."""
    return view_counts(model, store, num_classes, world, batch_size)[0]


@torch.inference_mode()
def view_counts(
    model: nn.Module, store: Samples, num_classes: int, world: World, batch_size: int, mirror: View | None = None
) -> torch.Tensor:
    """Counts [1,C,4] as of `class_counts`; with `mirror` [2,C,4], the second of the mean of two views' logits."""
    model.eval()
    counts = torch.zeros(1 if mirror is None else 2, num_classes, 4, dtype=torch.float64, device=world.device)
    for _, _, batch in eval_batches(store, batch_size, world):
        assert batch.labels is not None  # a store has them
        logits = model(batch.inputs)
        add_counts(counts[0], logits, batch.labels)
        if mirror is not None:
            add_counts(counts[1], mean_of(logits, model(mirror(batch.inputs))), batch.labels)
    return world.sum(counts)


def mean_of(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The mean of the logits of two views, float32."""
    return (logits.float() + others.float()) / 2


def add_counts(counts: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Add a batch of logits [B,C] and labels [B] to the counts [C,4] of `class_counts`, in place."""
    logits = logits.float()
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="none")
    values = torch.stack([torch.ones_like(loss), top[:, 0], top.any(1), loss], dim=1)
    counts.index_add_(0, labels, values.double())


def classification_metrics(
    model: nn.Module, store: Samples, num_classes: int, world: World, batch_size: int = 512
) -> dict[str, float]:
    """loss, top1 and top5 (shares) over the split; exact for any number of ranks."""
    samples, top1, top5, loss = class_counts(model, store, num_classes, world, batch_size).sum(0).tolist()
    return {"loss": loss / samples, "top1": top1 / samples, "top5": top5 / samples}


def per_class_top1(counts: torch.Tensor) -> list[float | None]:
    """Top-1 share of each class of `class_counts`; None where the split has no sample of it."""
    return [hits / total if total else None for total, hits in counts[:, :2].tolist()]


def figures_of_views(counts: torch.Tensor, class_names: list[str]) -> dict[str, Any]:
    """Figures of the first of counts [V,C,4], as of `figures_of_counts`; of a second one as "mirrored"."""
    figures, *both = (figures_of_counts(each, class_names) for each in counts.cpu())
    return {**figures, **({"mirrored": both[0]} if both else {})}


def figures_of_counts(counts: torch.Tensor, class_names: list[str]) -> dict[str, Any]:
    """samples, top1, top5, loss and per_class_top1 (by name) of the counts [C,4] of `class_counts`.

    standard_error: of top1, over the images; None for one image.
    """
    samples, top1, top5, loss = counts.sum(0).tolist()
    return {
        "samples": int(samples),
        "top1": top1 / samples,
        "standard_error": error_of(top1 / samples, top1, int(samples)),  # a hit is its own square
        "top5": top5 / samples,
        "loss": loss / samples,
        "per_class_top1": dict(zip(class_names, per_class_top1(counts.cpu()), strict=True)),
    }
