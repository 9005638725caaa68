"""A class for each pixel: cross-entropy of label maps. B rows, C classes, H x W pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import Batch
from seit_ray.images.label_maps import VOID

__all__ = ["SegmentObjective"]


class SegmentObjective:
    """Cross-entropy of logits, resized to the label maps, and `aux_weight` times that of the auxiliary head.

    The mean is over all pixels, those that are void counting 0, as in the frame that the papers are measured in: so it
    is the same for any number of ranks. `augment`: (inputs, maps, random numbers) -> `Augmented`. A weight below 0 is a
    ValueError. Source: CCViT, semantic segmentation; UPerNet.
    """

    def __init__(
        self,
        *,
        aux_weight: float = 0.4,
        augment: Callable[[Tensor, Tensor, StepRandom], Augmented] = lambda inputs, maps, rng: Augmented(inputs, maps),
    ) -> None:
        if aux_weight < 0:
            raise ValueError(f"aux_weight {aux_weight}; expected 0 or more; raise it")
        self.aux_weight, self.augment = aux_weight, augment

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metric `pixel_accuracy`, a mean of the rows', of a model -> (logits [B,C,h,w], auxiliary or None).

        A batch without label maps is a ValueError.
        """
        if batch.labels is None or batch.labels.ndim != 3:
            raise ValueError(
                "labels without maps; expected uint8 [B,H,W]; train on a dataset of images with label maps"
            )
        seen = self.augment(batch.inputs, batch.labels, step_rng)
        assert seen.labels is not None  # as they came
        logits, aux = model(seen.inputs)
        maps = seen.labels.long()
        logits = self.at_size(logits, maps)
        loss = self.cross_entropy(logits, maps)
        if aux is not None:
            loss = loss + self.aux_weight * self.cross_entropy(self.at_size(aux, maps), maps)
        with torch.no_grad():
            counted = (maps != VOID).flatten(1)
            right = (logits.argmax(1) == maps).flatten(1) & counted
            accuracy = (right.sum(1) / counted.sum(1).clamp(min=1)).mean()
        return loss, {"pixel_accuracy": accuracy}

    @staticmethod
    def at_size(logits: Tensor, maps: Tensor) -> Tensor:
        """Logits float32 [B,C,H,W] at the maps' size."""
        return F.interpolate(logits.float(), maps.shape[1:], mode="bilinear", align_corners=False)

    @staticmethod
    def cross_entropy(logits: Tensor, maps: Tensor) -> Tensor:
        """The mean over all pixels; 0 of void."""
        return F.cross_entropy(logits, maps, ignore_index=VOID, reduction="sum") / maps.numel()
