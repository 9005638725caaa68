"""How well a masked token model fills in what it does not see."""

from __future__ import annotations

import torch

from seit_ray.augment.random import StepRandom
from seit_ray.batches.contract import Samples
from seit_ray.evaluation.batches import eval_batches
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.objectives import MTMObjective
from seit_ray.training.world import World

EVAL_SEED = 0x5E17  # masks of the val split are the same for every run, epoch and world size


@torch.inference_mode()
def masked_metrics(
    model: MaskedTokenModel, objective: MTMObjective, store: Samples, world: World, batch_size: int = 512
) -> dict[str, float]:
    """loss and masked_accuracy over the split, with ratios and masks drawn as in training from a fixed seed."""
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)
    for chunk, rows, batch in eval_batches(store, batch_size, world):
        random = StepRandom(EVAL_SEED, chunk, rows, len(store), world.device)
        loss, metrics = objective.loss(model, batch, random)
        values = torch.stack([loss, metrics["masked_accuracy"], torch.ones_like(loss)])
        sums += values.double() * (rows.stop - rows.start)
    loss, accuracy, total = world.sum(sums).tolist()
    return {"loss": loss / total, "masked_accuracy": accuracy / total}
