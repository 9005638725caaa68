"""How well a tokenizer in training gives images back, and how much of its codebook it uses."""

from __future__ import annotations

import math

import torch

from seit_ray.batches.contract import Samples
from seit_ray.evaluation.batches import eval_batches
from seit_ray.tokenizers.vit_vqgan.training import VqganTrainingModel
from seit_ray.training.world import World


@torch.inference_mode()
def autoencoder_metrics(
    model: VqganTrainingModel, store: Samples, world: World, batch_size: int = 64
) -> dict[str, float]:
    """psnr_db of clamped reconstructions, code_usage (share of the codes that the split uses), quantizer_loss.

    Exact for any number of ranks.
    """
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=world.device)
    counts = torch.zeros(len(model.weight), dtype=torch.float64, device=world.device)
    for _, _, batch in eval_batches(store, batch_size, world):
        seen = model(batch.inputs)
        error = (seen.reconstruction.clamp(0, 1) - seen.originals).double().square().sum()
        images = torch.tensor(float(len(batch.inputs)), device=world.device)
        values = torch.tensor(float(seen.originals.numel()), device=world.device)
        sums += torch.stack([error, values.double(), seen.quantizer_loss.double() * images, images.double()])
        counts += torch.bincount(seen.codes.flatten(), minlength=len(counts))
    error, values, quantizer, images = world.sum(sums).tolist()
    used = (world.sum(counts) > 0).double().mean().item()
    psnr = -10 * math.log10(error / values) if error else math.inf
    return {"psnr_db": psnr, "code_usage": used, "quantizer_loss": quantizer / images}
