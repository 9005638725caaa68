"""Masked token modelling (SeiT++ pre-training)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.chain import Augmented
from seit_ray.augment.mask_counts import check_ratio, num_units_at
from seit_ray.augment.masking import mask_noise, sample_mask_ratio
from seit_ray.augment.random import StepRandom
from seit_ray.augment.target_numbers import check_masked_labels
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.objectives.code_cross_entropy import Judged, judge_codes
from seit_ray.objectives.contract import Batch, unwrap

__all__ = ["LOSSES", "MTMObjective", "binary_cross_entropy"]

LOSSES = ("ce", "bce")


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits [N,K] against the one-hot of targets [N], without making it."""
    # -[y log s(x) + (1-y) log(1-s(x))] = softplus(x) - y x
    return F.softplus(logits).mean() - logits.gather(1, targets.unsqueeze(1)).mean() / logits.shape[1]


class MTMObjective:
    """Predict the codes of masked units; one mask ratio a step for the whole global batch.

    `loss="ce"`: cross-entropy with label smoothing, mean over the tokens of a unit, then over the masked
    units of the batch (those the encoder never saw included); `loss="bce"`: one-hot binary cross-entropy. The
    ratio's defaults are the published script's; std 0 fixes the ratio at mu. An unknown loss, smoothing
    outside [0,1) or with "bce", wrong bounds, and a ratio below what the model drops are ValueErrors. Source:
    SeiT++, masked token modelling.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        loss: str = "ce",
        mask_ratio_min: float = 0.4,
        mask_ratio_mu: float = 0.45,
        mask_ratio_std: float = 0.25,
        mask_ratio_max: float = 1.0,
        augment: Callable[[Tensor, None, StepRandom], Augmented] = lambda tokens, labels, rng: Augmented(
            tokens, labels
        ),
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"loss {loss!r}; expected one of {', '.join(LOSSES)}; choose one")
        check_masked_labels(label_smoothing, loss)
        self.label_smoothing, self.loss_name, self.augment = label_smoothing, loss, augment
        self.looks = True  # at the accuracy of a step
        self.ratio = {
            "minimum": mask_ratio_min,
            "mu": mask_ratio_mu,
            "std": mask_ratio_std,
            "maximum": mask_ratio_max,
        }
        check_ratio(**self.ratio)

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metrics `masked_accuracy` (if it looks) and `mask_ratio` of a `MaskedTokenModel`.

        Every row masks the same number of units, so every row has the same weight in the mean.
        """
        tokens = self.augment(batch.inputs, None, step_rng).inputs
        loss, metrics, _ = self.masked_loss(model, tokens, step_rng)
        return loss, metrics

    def masked_loss(
        self, model: nn.Module, tokens: Tensor, step_rng: StepRandom, *, everywhere: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Loss and metrics of augmented tokens, and, `everywhere`, what the model tells of all units."""
        core: MaskedTokenModel = unwrap(model)
        if self.ratio["minimum"] < core.mask_ratio_min:
            raise ValueError(
                f"mask_ratio_min {self.ratio['minimum']}; expected {core.mask_ratio_min} or more, a share "
                "that never enters the model's encoder; raise it or build the model with the lower number"
            )
        num_masked = max(1, num_units_at(sample_mask_ratio(step_rng, **self.ratio), core.num_patches))
        noise = mask_noise(step_rng, core.num_patches)
        more: dict[str, Any] = {"everywhere": True} if everywhere else {}
        if self.loss_name == "ce" and not (everywhere and core.morph_head is None):  # else scores are wanted themselves
            more["judge"] = functools.partial(judge_codes, smoothing=self.label_smoothing, counts=self.looks)
        told = model(tokens, noise, num_masked, **more)
        loss, accuracy = told[0] if "judge" in more else self.judge(told[0], told[1])
        metrics = {"mask_ratio": torch.full((), num_masked / core.num_patches, device=tokens.device)}
        if accuracy is not None:
            metrics["masked_accuracy"] = accuracy
        return loss.float(), metrics, told[3] if everywhere else None

    def judge(self, scores: Tensor, targets: Tensor) -> Judged:
        """Loss and accuracy of scores [B,M,U,K] against targets [B,M,U]."""
        scores, targets = scores.flatten(0, 2).float(), targets.flatten()
        if self.loss_name == "bce":
            loss = binary_cross_entropy(scores, targets)
        else:
            loss = F.cross_entropy(scores, targets, label_smoothing=self.label_smoothing)
        accuracy = (scores.detach().argmax(dim=1) == targets).float().mean() if self.looks else None
        return Judged(loss, accuracy)
