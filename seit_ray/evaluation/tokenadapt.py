"""How well TokenAdapt gives the tokens of augmented images, beside the naive way and the tokenizer's own bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.batches import ImageStore
from seit_ray.evaluation.batches import eval_batches
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.objectives.tokenadapt import TokenAdaptObjective
from seit_ray.tokenizers.pixels import decode_pixels
from seit_ray.training.world import World

EVAL_SEED = 0x5E17  # draws on the val split are the same for every run, epoch and world size


@torch.inference_mode()
def tokenadapt_metrics(
    model: TokenAdapt, objective: TokenAdaptObjective, store: ImageStore, world: World, batch_size: int = 256
) -> dict[str, float]:
    """loss, hit rates and PSNR in dB over the split; augmented as in training, from a fixed seed.

    hit_rate, psnr_db: of g(A(f(Z))), decoded against the augmented image. naive_*: of A on the grid of codes.
    bound_psnr_db: of the tokens of the augmented image itself. Infinite where all pixels are equal.
    """
    model.eval()
    sums = torch.zeros(8, dtype=torch.float64, device=world.device)
    for chunk, rows, batch in eval_batches(store, batch_size, world):
        pairs = objective.pairs(batch.inputs, StepRandom(EVAL_SEED, chunk, rows, len(store), world.device))
        logits = objective.logits(model, pairs)
        codes, naive = logits.argmax(dim=2), objective.naive_codes(pairs)
        images = pairs.augmented

        def error(tokens: Tensor, images: Tensor = images) -> Tensor:
            decoded = decode_pixels(objective.tokenizer, tokens, objective.out_grid)
            return (decoded.int() - images.int()).square().sum()

        values = [
            F.cross_entropy(logits.flatten(0, 1).double(), pairs.targets.flatten(), reduction="sum"),
            (codes == pairs.targets).sum(),
            (naive == pairs.targets).sum(),
            torch.tensor(codes.numel(), device=world.device),
            *(error(tokens) for tokens in (codes, naive, pairs.targets)),
            torch.tensor(images.numel(), device=world.device),
        ]
        sums += torch.stack([value.double() for value in values])
    loss, hits, naive_hits, tokens, *errors, values = world.sum(sums).tolist()
    psnr, naive_psnr, bound_psnr = (decibels(error / values) for error in errors)
    return {
        "loss": loss / tokens,
        "hit_rate": hits / tokens,
        "naive_hit_rate": naive_hits / tokens,
        "psnr_db": psnr,
        "naive_psnr_db": naive_psnr,
        "bound_psnr_db": bound_psnr,
    }


def decibels(squared_error: float) -> float:
    """PSNR of a mean squared error of 8-bit values."""
    return 10 * math.log10(255**2 / squared_error) if squared_error else math.inf
