"""How well a masked token model fills in what it does not see, at ratios that no run chooses."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from seit_ray.augment.mask_counts import num_units_at
from seit_ray.augment.masking import mask_noise
from seit_ray.augment.random import StepRandom
from seit_ray.batches.contract import Samples
from seit_ray.evaluation.batches import eval_batches
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.training.world import World

EVAL_SEED = 0x5E17  # masks of the val split are the same for every run, epoch and world size
# Of the units of row i, the share RATIOS[i % 4] is masked. Their mean, 0.6, is that of the published training.
RATIOS = (0.45, 0.55, 0.65, 0.75)
DROPPED = 0.4  # the share of the units that the encoder does not see at all, as published


@torch.inference_mode()
def masked_metrics(model: MaskedTokenModel, store: Samples, world: World, batch_size: int = 512) -> dict[str, float]:
    """loss (cross-entropy) and masked_accuracy over the split, a mean of the rows.

    A row's mask depends on its number in the split alone: figures of runs that mask otherwise in training, and of any
    batch size and number of ranks, can be compared.
    """
    model.eval()
    num_units = model.num_patches
    num_dropped = min(num_units_at(DROPPED, num_units), num_units - 1)
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)
    for _, rows, batch in eval_batches(store, batch_size, world):
        random = StepRandom(EVAL_SEED, 0, rows, len(store), world.device)
        noise, numbers = mask_noise(random, num_units), random.host_rows()
        for index, ratio in enumerate(RATIOS):
            alike = [place for place, number in enumerate(numbers) if number % len(RATIOS) == index]
            tokens, num_masked = batch.inputs[alike], max(1, num_units_at(ratio, num_units))
            if not len(tokens):
                continue
            logits, targets, _ = model(tokens, noise[alike], num_masked, num_dropped)
            logits, targets = logits.flatten(0, 2).float(), targets.flatten()
            hits = (logits.argmax(dim=1) == targets).sum()
            values = torch.stack([F.cross_entropy(logits, targets, reduction="sum"), hits, hits.new_tensor(0.0)])
            sums += values.double() * (len(tokens) / len(targets))  # every row has the same weight
            sums[2] += len(tokens)
    loss, accuracy, total = world.sum(sums).tolist()
    return {"loss": loss / total, "masked_accuracy": accuracy / total}
