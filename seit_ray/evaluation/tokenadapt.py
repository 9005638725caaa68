"""How well TokenAdapt gives the tokens of augmented images, beside the naive way and the tokenizer's own bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.batches.contract import Samples
from seit_ray.evaluation.batches import eval_batches
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.objectives.tokenadapt import Pairs, TokenAdaptObjective
from seit_ray.training.world import World

EVAL_SEED = 0x5E17  # draws on the val split are the same for every run, epoch and world size


@torch.inference_mode()
def tokenadapt_metrics(
    model: TokenAdapt, objective: TokenAdaptObjective, store: Samples, world: World, batch_size: int = 256
) -> dict[str, float]:
    """loss, hit rates and PSNR in dB over the split; augmented as in training, from a fixed seed.

    hit_rate, psnr_db: of g(A(f(Z))), decoded against the augmented image. naive_*: of A on the grid of codes.
    reencoded_*: of A on the decoded pixels, encoded again. bound_psnr_db: of the tokens of the augmented image itself.
    Infinite where all pixels are equal.
    """
    model.eval()
    sums = torch.zeros(10, dtype=torch.float64, device=world.device)
    for chunk, rows, batch in eval_batches(store, batch_size, world):
        pairs = objective.pairs(batch.inputs, StepRandom(EVAL_SEED, chunk, rows, len(store), world.device))
        logits = objective.logits(model, pairs)
        found = (logits.argmax(dim=2), objective.naive_codes(pairs), objective.reencoded_codes(pairs))
        images = pairs.augmented

        def error(tokens: Tensor, pairs: Pairs = pairs) -> Tensor:
            return (objective.decode(tokens, pairs).int() - pairs.augmented.int()).square().sum()

        values = [
            F.cross_entropy(logits.flatten(0, 1).double(), pairs.targets.flatten(), reduction="sum"),
            torch.tensor(pairs.targets.numel(), device=world.device),
            torch.tensor(images.numel(), device=world.device),
            *((codes == pairs.targets).sum() for codes in found),
            *(error(codes) for codes in (*found, pairs.targets)),
        ]
        sums += torch.stack([value.double() for value in values])
    loss, tokens, values, *counts = world.sum(sums).tolist()
    names = ("", "naive_", "reencoded_", "bound_")
    hits = {f"{name}hit_rate": count / tokens for name, count in zip(names, counts[:3], strict=False)}
    psnr = {f"{name}psnr_db": decibels(error / values) for name, error in zip(names, counts[3:], strict=True)}
    return {"loss": loss / tokens, **hits, **psnr}


def decibels(squared_error: float) -> float:
    """PSNR of a mean squared error of 8-bit values."""
    return 10 * math.log10(255**2 / squared_error) if squared_error else math.inf
