"""Autoencoding of images through a codebook (ViT-VQGAN, the tokenizer of SeiT)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.objectives.contract import Batch, unwrap
from seit_ray.tokenizers.vit_vqgan.revival import num_ranks
from seit_ray.tokenizers.vit_vqgan.training import VqganTrainingModel

__all__ = ["AutoencoderObjective", "perceptual_distance"]


def perceptual_distance(network: nn.Module, images: Tensor, others: Tensor) -> Tensor:
    """Mean distance of the feature maps of images [B,3,H,W], each pixel's features normalised over the channels.

    The network gives one map [B,C,h,w] or several; anything else is a ValueError. Source: LPIPS (Zhang et al. 2018,
    arXiv 1801.03924), equation 1, with all channel weights 1.
    """
    pairs = [maps if isinstance(maps, Sequence) else [maps] for maps in (network(images), network(others))]
    if not pairs[0] or any(not isinstance(m, Tensor) or m.ndim != 4 for m in pairs[0]):
        raise ValueError(
            f"perceptual network {type(network).__name__} gives no feature maps; expected [B,C,h,w], or several; cut "
            "it before its pooling and head"
        )
    distances = [
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean()
        for a, b in zip(*pairs, strict=True)
    ]
    return torch.stack(distances).mean()


class AutoencoderObjective:
    """Mean squared error + the quantiser's loss + perceptual and adversarial terms, for a `VqganTrainingModel`.

    `perceptual` is any network from images [B,3,H,W] in [0,1] to one or several feature maps [B,C,h,w] (it scales its
    input itself); it is frozen here and is no part of the model. The adversarial term counts where the model has a
    discriminator, from step `adversarial_start_step` on; the discriminator learns by hinge loss from the first step,
    in the same backward. Every `revive_steps` steps (0: never) the codes that nothing took in that time are moved
    onto vectors of the batch. Negative numbers are ValueErrors. Weights: ViT-VQGAN release.
    """

    collective = True  # a forward in training meets the other ranks, to count codes

    def __init__(
        self,
        *,
        reconstruction_weight: float = 1.0,
        quantizer_weight: float = 1.0,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 0.1,
        adversarial_weight: float = 0.1,
        adversarial_start_step: int = 0,
        revive_steps: int = 100,
    ) -> None:
        self.weights = {
            "reconstruction": reconstruction_weight,
            "quantizer": quantizer_weight,
            "perceptual": perceptual_weight,
            "adversarial": adversarial_weight,
        }
        numbers = {f"{name}_weight": weight for name, weight in self.weights.items()}
        numbers |= {"adversarial_start_step": adversarial_start_step, "revive_steps": revive_steps}
        for name, number in numbers.items():
            if not 0 <= number < float("inf"):
                raise ValueError(f"{name} {number}; expected 0 or more; raise it")
        self.perceptual = None if perceptual is None else perceptual.eval().requires_grad_(False)
        self.adversarial_start_step, self.revive_steps = adversarial_start_step, revive_steps
        self._last_step = -1

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and a metric for each of its terms, code usage and perplexity; inputs are uint8 [B,3,H,W].

        In training, a global batch that the ranks do not divide is a ValueError: codes are counted over all ranks, so
        all must take equally many (micro-)steps.
        """
        core: VqganTrainingModel = unwrap(model)
        # a rank's rows come in pairs, so that twice the ranks have to divide the batch
        if core.training and num_ranks() > 1 and step_rng.global_batch_size % (2 * num_ranks()):
            raise ValueError(
                f"global_batch_size {step_rng.global_batch_size} for {num_ranks()} workers; expected a multiple of "
                f"{2 * num_ranks()}, for codes are counted over equal shares; change one of the two"
            )
        seen = model(batch.inputs, self.revival_noise(core, step_rng))
        terms = {
            "reconstruction": F.mse_loss(seen.reconstruction, seen.originals),
            "quantizer": seen.quantizer_loss,
        }
        if self.perceptual is not None:
            network = self.perceptual.to(seen.originals.device)
            terms["perceptual"] = perceptual_distance(network, seen.reconstruction, seen.originals)
        if seen.judged is not None:
            terms["adversarial"] = -seen.judged.float().mean()
        loss = sum(self.weight_of(name, step_rng.step) * term for name, term in terms.items())
        if seen.judged is not None:
            terms["discriminator"] = 0.5 * (F.relu(1 - seen.real.float()).mean() + F.relu(1 + seen.fake.float()).mean())
            loss = loss + terms["discriminator"]
        metrics = {f"{name}_loss": term.detach() for name, term in terms.items()}
        return loss, {**metrics, "code_usage": seen.code_usage, "code_perplexity": seen.perplexity}

    def drop_step(self) -> None:
        """The step is done again, from its first micro-batch."""
        self._last_step = -1

    def weight_of(self, name: str, step: int) -> float:
        """Weight of a term at a step."""
        return 0.0 if name == "adversarial" and step < self.adversarial_start_step else self.weights[name]

    def revival_noise(self, core: VqganTrainingModel, step_rng: StepRandom) -> Tensor | None:
        """Noise [B,L] when codes are due to be revived: in the first micro-batch of such a step, None otherwise."""
        step = step_rng.step
        if not core.training:
            return None
        is_first, self._last_step = step != self._last_step, step
        if not is_first or not self.revive_steps or not step or step % self.revive_steps:
            return None
        return step_rng.uniform("code revival", core.num_tokens)
