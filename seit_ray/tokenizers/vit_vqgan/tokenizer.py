"""The ViT-VQGAN as a tokenizer: pixels to 2-D grids of codes and back (SeiT, arXiv 2303.11114, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from seit_ray.tokenizers.codebook import nearest_in_codebook
from seit_ray.tokenizers.contract import check_images

if TYPE_CHECKING:
    from seit_ray.tokenizers.vit_vqgan.network import VitVqgan

__all__ = ["VitVqganTokenizer"]

CODEBOOK = "quantizer.embedding.weight"


class VitVqganTokenizer:
    """Codes are rows of a learned codebook [K,D], found by cosine; images are uint8 [B,3,H,W], scaled to [0,1].

    On a GPU the network computes in bfloat16, which may give a few other codes than the CPU; the nearest code is
    always sought in float32. `codebook` holds the raw rows, which models are trained on; decoding normalises them.
    `compacted_from` is the K that a compacted codebook once had. The network is taken over: frozen, in eval mode.
    """

    family = "vit_vqgan"
    metric = "cosine"

    def __init__(self, network: VitVqgan, *, resize: str = "squash", compacted_from: int | None = None):
        self.network = network.eval().requires_grad_(False)
        self.image_size, self.grid = network.image_size, network.grid
        self.resize, self.compacted_from = resize, compacted_from

    @property
    def codebook(self) -> Tensor:
        """The raw rows [K,D], float32."""
        return self.network.quantizer.embedding.weight.detach()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Tokens int64 [B,L], raster order, of uint8 images [B,3,H,W]; ValueError for another size."""
        check_images(images, self.image_size)
        device = self.codebook.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            vectors = self.network.encode(images.to(device).float() / 255)
        return nearest_in_codebook(vectors, self.codebook, self.metric)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """uint8 images [B,3,H,W] of tokens [B,L] or [B,h,w]; ValueError for another number of tokens."""
        if tokens.shape[1:].numel() != self.network.num_tokens or tokens.ndim < 2:
            raise ValueError(
                f"tokens {tuple(tokens.shape)}; expected [B,{self.network.num_tokens}]; decode whole grids with the "
                "tokenizer that made them"
            )
        device = self.codebook.device
        rows = self.network.quantizer.lookup(tokens.to(device).long().flatten(1))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            images = self.network.decode(rows)
        return images.float().mul(255).round().clamp(0, 255).to(torch.uint8)

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place."""
        self.network.to(device)
        return self

    def select_codes(self, kept: Tensor) -> Self:
        """The tokenizer with only the codes `kept` [K'], in that order, on the same device."""
        tensors = self.tensors()
        tensors[CODEBOOK] = tensors[CODEBOOK][kept.to(self.codebook.device)]
        before = self.compacted_from or len(self.codebook)
        config = {**self.config(), "codebook_size": len(kept), "compacted_from": before}
        return self.build(config, tensors).to(self.codebook.device)

    def config(self) -> dict[str, Any]:
        """Plain values that, with `tensors`, rebuild it."""
        return {**self.network.settings(), "resize": self.resize, "compacted_from": self.compacted_from}

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors, as published, that with `config` rebuild it."""
        return dict(self.network.state_dict())

    @classmethod
    def build(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The inverse of `config` and `tensors`; ValueError when they do not fit."""
        # Here, not above: it imports timm, which takes longer than all that a centroid tokenizer needs.
        from seit_ray.tokenizers.vit_vqgan.build import build_vqgan

        settings = dict(config)
        options = {name: settings.pop(name) for name in ("resize", "compacted_from")}
        return cls(build_vqgan(settings, tensors), **options)
