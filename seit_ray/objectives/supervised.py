"""Classification of token grids by their labels (SeiT training, SeiT++ fine-tuning)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import Batch

__all__ = ["SupervisedObjective"]


class SupervisedObjective:
    """Cross-entropy of the labels, smoothed, of augmented inputs; a mixed sample has the weighted loss of both labels.

    `augment`: (inputs, labels, random numbers) -> `Augmented`. Smoothing outside [0,1) is a ValueError. Source: SeiT.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        augment: Callable[[Tensor, Tensor, StepRandom], Augmented] = lambda inputs, labels, rng: Augmented(
            inputs, labels
        ),
    ) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing {label_smoothing}; expected 0 <= label_smoothing < 1; lower it")
        self.label_smoothing, self.augment = label_smoothing, augment

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metric `accuracy` of a model [B,L] -> logits [B,C]; a mixed sample counts as its larger part.

        A batch without labels is a ValueError.
        """
        if batch.labels is None:
            raise ValueError("labels None; expected int64 [B]; train on a labelled split or pre-train on this one")
        seen = self.augment(batch.inputs, batch.labels, step_rng)
        logits = model(seen.inputs).float()
        labels, partner, weight = seen.labels, seen.partner_labels, seen.weight
        assert labels is not None  # as they came
        if partner is None or weight is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        else:
            own, others = (
                F.cross_entropy(logits, of, label_smoothing=self.label_smoothing, reduction="none")
                for of in (labels, partner)
            )
            loss = (others + weight * (own - others)).mean()
            labels = labels.where(weight >= 0.5, partner)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return loss, {"accuracy": accuracy}
