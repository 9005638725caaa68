"""The module that is trained: autoencoder, how its codebook learns, and the discriminator, under one optimizer."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.progress import Progress, silent
from seit_ray.tokenizers.contract import check_images
from seit_ray.tokenizers.fit_numbers import check_stride
from seit_ray.tokenizers.kmeans import fit_kmeans
from seit_ray.tokenizers.vit_vqgan.discriminator import PatchDiscriminator, judge_frozen
from seit_ray.tokenizers.vit_vqgan.network import VitVqgan
from seit_ray.tokenizers.vit_vqgan.revival import code_statistics, draw_candidates, perplexity, refill_rows
from seit_ray.tokenizers.vit_vqgan.tokenizer import VitVqganTokenizer

__all__ = ["CODEBOOK_UPDATES", "VqganOutput", "VqganTrainingModel"]

CODEBOOK_UPDATES = ("gradient", "ema")


class VqganOutput(NamedTuple):
    """What a forward gives: images [B,3,H,W] in [0,1] and about it, codes [B,L], and scalars.

    code_usage (share of the K codes) and perplexity are of all ranks' rows in training, of these rows otherwise. The
    logits are the discriminator's, None without one: `judged` reaches the autoencoder alone, `real` and `fake` the
    discriminator alone.
    """

    originals: Tensor
    reconstruction: Tensor
    codes: Tensor
    quantizer_loss: Tensor
    code_usage: Tensor
    perplexity: Tensor
    judged: Tensor | None = None
    real: Tensor | None = None
    fake: Tensor | None = None


class VqganTrainingModel(nn.Module):
    """Train a `VitVqgan`; forward(images, revival_noise) updates the codebook's statistics in train mode.

    codebook_update "gradient": the codebook is a parameter like others; "ema": each row is the direction of a moving
    average of the vectors that took it (van den Oord et al. 2017, appendix A.1). All ranks do the same to the
    codebook, so DistributedDataParallel finds equal buffers; they must hold equally many rows. An unknown update, a
    decay outside [0,1) and images smaller than the discriminator's stride are ValueErrors.
    """

    code_uses: Tensor  # int64 [K]: since codes were last revived
    code_sums: Tensor  # float32 [K,D]: moving averages, with "ema" alone

    def __init__(
        self,
        network: VitVqgan,
        *,
        codebook_update: str = "gradient",
        codebook_decay: float = 0.99,
        discriminator: PatchDiscriminator | None = None,
    ) -> None:
        super().__init__()
        if codebook_update not in CODEBOOK_UPDATES:
            raise ValueError(
                f"codebook_update {codebook_update!r}; expected one of {', '.join(CODEBOOK_UPDATES)}; choose one"
            )
        if not 0.0 <= codebook_decay < 1.0:
            raise ValueError(f"codebook_decay {codebook_decay}; expected 0 <= codebook_decay < 1; lower it")
        if discriminator is not None:
            check_stride(network.image_size, discriminator.stride)
        self.network, self.discriminator = network, discriminator
        self.codebook_update, self.codebook_decay = codebook_update, codebook_decay
        self.num_tokens = network.num_tokens
        network.requires_grad_(True)  # that of a tokenizer, to be trained on, comes frozen
        self.weight.requires_grad_(codebook_update == "gradient")
        self.register_buffer("code_uses", torch.zeros(len(self.weight), dtype=torch.int64))
        if codebook_update == "ema":
            self.register_buffer("code_sums", F.normalize(self.weight.detach(), dim=1))

    @property
    def weight(self) -> Tensor:
        """The codebook [K,D]."""
        return self.network.quantizer.embedding.weight

    def forward(self, images: Tensor, revival_noise: Tensor | None = None) -> VqganOutput:
        """Autoencode uint8 images [B,3,H,W]; another size is a ValueError.

        With noise [B,L], in train mode, the codes that nothing took since noise was last given are first moved onto
        the global batch's vectors of lowest noise.
        """
        check_images(images, self.network.image_size)
        originals = images.float() / 255
        vectors = self.network.encode(originals)
        if revival_noise is not None and self.training:
            self.revive_codes(vectors, revival_noise)  # before the codebook enters the graph
        rows, quantizer_loss, codes = self.network.quantizer(vectors)
        reconstruction = self.network.decode(rows).float()
        counts, sums = code_statistics(vectors, codes, len(self.weight), all_ranks=self.training)
        if self.training:
            self.count_codes(counts, sums)
        usage = (counts > 0).float().mean()
        seen = VqganOutput(originals, reconstruction, codes, quantizer_loss, usage, perplexity(counts))
        if self.discriminator is None:
            return seen
        return seen._replace(
            judged=judge_frozen(self.discriminator, reconstruction),
            real=self.discriminator(originals),
            fake=self.discriminator(reconstruction.detach()),
        )

    def moved_by_forward(self) -> list[Tensor]:
        """What a forward in train mode writes to: the statistics of codes, and the codebook."""
        return [self.weight, self.code_uses, *([self.code_sums] if self.codebook_update == "ema" else [])]

    @torch.no_grad()
    def count_codes(self, counts: Tensor, sums: Tensor) -> None:
        """Remember which codes were taken; with "ema", move their rows."""
        self.code_uses += counts.long()
        if self.codebook_update == "ema":
            # the sum of a code that nothing takes would fade to nothing; of a step that is not finite nothing is kept
            used = (counts > 0)[:, None] & sums.isfinite().all()
            moved = torch.lerp(sums, self.code_sums, self.codebook_decay)
            self.code_sums.copy_(torch.where(used, moved, self.code_sums))
            self.weight.copy_(F.normalize(self.code_sums, dim=1))

    @torch.no_grad()
    def revive_codes(self, vectors: Tensor, noise: Tensor) -> None:
        """Move unused codes onto vectors [B,L,D] of this and the other ranks, and begin to count anew."""
        dead = self.code_uses == 0
        candidates = draw_candidates(vectors, noise, len(dead))
        self.weight.copy_(refill_rows(self.weight, dead, candidates))
        if self.codebook_update == "ema":
            self.code_sums.copy_(refill_rows(self.code_sums, dead, candidates))
        self.code_uses.zero_()

    @torch.no_grad()
    def init_codebook(
        self,
        images: Tensor,
        *,
        seed: int = 0,
        iterations: int = 20,
        batch_rows: int = 64,
        on_progress: Progress = silent,
    ) -> None:
        """Start the codebook from k-means of the vectors of uint8 images [N,3,H,W], normalised.

        Call it before the first step, on every rank with the same images; ValueError for fewer vectors than codes.
        """
        check_images(images, self.network.image_size)
        device = self.weight.device
        parts = [self.network.encode(part.to(device).float() / 255) for part in images.split(batch_rows)]
        points = F.normalize(torch.cat(parts).float().flatten(0, 1), dim=1)
        found = fit_kmeans(points, len(self.weight), iterations=iterations, seed=seed, on_progress=on_progress)
        self.weight.copy_(F.normalize(found.centroids, dim=1))
        if self.codebook_update == "ema":
            self.code_sums.copy_(self.weight)

    def to_tokenizer(self, resize: str = "squash") -> VitVqganTokenizer:
        """The tokenizer of the weights as they are now, a copy on the CPU."""
        return VitVqganTokenizer(copy.deepcopy(self.network).cpu(), resize=resize)
