"""Classification of token grids by their labels (SeiT training, SeiT++ fine-tuning)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import replace_synonyms
from seit_ray.objectives.contract import Batch

__all__ = ["SupervisedObjective"]


class SupervisedObjective:
    """Cross-entropy of the labels, smoothed; tokens are replaced by synonyms [K,S] with probability `synonym_share`.

    Smoothing outside [0,1) is a ValueError. Source: SeiT.
    """

    def __init__(
        self, *, label_smoothing: float = 0.0, synonyms: Tensor | None = None, synonym_share: float = 0.0
    ) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing {label_smoothing}; expected 0 <= label_smoothing < 1; lower it")
        self.label_smoothing = label_smoothing
        self.synonyms, self.synonym_share = synonyms, synonym_share

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metric `accuracy` of a model tokens [B,L] -> logits [B,C].

        A batch without labels is a ValueError.
        """
        if batch.labels is None:
            raise ValueError("labels None; expected int64 [B]; train on a labelled split or pre-train on this one")
        tokens = batch.inputs
        if self.synonyms is not None:
            tokens = replace_synonyms(tokens, self.synonyms, self.synonym_share, step_rng)
        logits = model(tokens).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        accuracy = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        return loss, {"accuracy": accuracy}
