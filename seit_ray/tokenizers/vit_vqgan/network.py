"""The ViT-VQGAN autoencoder, entry for entry that of the published weights (Yu et al. 2022, arXiv 2110.04627).

Shapes: B batch, L = (image_size/patch_size)^2 tokens, W width of a transformer, K codes, D width of a code.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.models.embed import sincos_positions
from seit_ray.tokenizers.codebook import nearest_in_codebook
from seit_ray.tokenizers.fit_numbers import VqganSize

__all__ = ["HEAD_WIDTH", "Quantizer", "VitVqgan"]

HEAD_WIDTH = 64  # of every attention head, whatever the width


class Attention(nn.Module):
    """Self-attention [B,L,W] -> [B,L,W] with heads of HEAD_WIDTH; no bias but the last."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Linear(width, 3 * num_heads * HEAD_WIDTH, bias=False)
        self.to_out = nn.Linear(num_heads * HEAD_WIDTH, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(x).unflatten(2, (3, self.num_heads, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a Tanh between them."""

    def __init__(self, width: int, mlp_width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, mlp_width), nn.Tanh(), nn.Linear(mlp_width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class PreNorm(nn.Module):
    """LayerNorm (eps 1e-5) before a layer."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Layer(nn.ModuleList):
    """Attention, then two linear layers, each beside what comes in, [B,L,W] -> [B,L,W]."""

    def __init__(self, size: VqganSize) -> None:
        attention, feed_forward = Attention(size.width, size.num_heads), FeedForward(size.width, size.mlp_width)
        super().__init__([PreNorm(size.width, attention), PreNorm(size.width, feed_forward)])

    def forward(self, x: Tensor) -> Tensor:
        for part in self:
            x = x + part(x)
        return x


class Transformer(nn.Module):
    """Pre-norm blocks and a last LayerNorm, [B,L,W] -> [B,L,W]."""

    def __init__(self, size: VqganSize) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Encoder(nn.Module):
    """Images [B,3,H,W] in [0,1] -> [B,L,W]."""

    en_pos_embedding: Tensor

    def __init__(self, size: VqganSize, grid: tuple[int, int], patch_size: int) -> None:
        super().__init__()
        self.to_patch_embedding = nn.Sequential(nn.Conv2d(3, size.width, patch_size, stride=patch_size), nn.Flatten(2))
        self.register_buffer("en_pos_embedding", sincos_positions(grid, size.width, class_slot=False)[None])
        self.transformer = Transformer(size)

    def forward(self, images: Tensor) -> Tensor:
        return self.transformer(self.to_patch_embedding(images).transpose(1, 2) + self.en_pos_embedding)


class Decoder(nn.Module):
    """[B,L,W] -> images [B,3,H,W], about [0,1], not clamped."""

    de_pos_embedding: Tensor

    def __init__(self, size: VqganSize, grid: tuple[int, int], patch_size: int) -> None:
        super().__init__()
        self.register_buffer("de_pos_embedding", sincos_positions(grid, size.width, class_slot=False)[None])
        self.transformer = Transformer(size)
        self.to_pixel = nn.Sequential(
            nn.Unflatten(2, grid), nn.ConvTranspose2d(size.width, 3, patch_size, stride=patch_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.to_pixel(self.transformer(x + self.de_pos_embedding).transpose(1, 2))


class Quantizer(nn.Module):
    """The codebook [K,D]: vectors to the nearest code by cosine, and its normalised row.

    Autocast does not reach it: half precision would flip close codes and blur the loss.
    """

    def __init__(self, codebook_size: int, code_width: int, commitment: float = 0.25) -> None:
        super().__init__()
        self.commitment = commitment
        self.embedding = nn.Embedding(codebook_size, code_width)
        with torch.no_grad():
            self.embedding.weight.copy_(F.normalize(self.embedding.weight, dim=1))

    def lookup(self, codes: Tensor) -> Tensor:
        """Normalised rows [...,D] of codes [...]; the decoder reads these, never the raw ones."""
        return F.embedding(codes, F.normalize(self.embedding.weight, dim=1))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows [B,L,D] with a straight-through gradient, the loss, and codes int64 [B,L] of vectors [B,L,D].

        The codebook's own term of the loss is left out where its gradient is off (something else moves it then).
        Source: van den Oord et al. 2017 (arXiv 1711.00937), equation 3, on normalised vectors.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.to(self.embedding.weight.dtype)
            codes = nearest_in_codebook(vectors, self.embedding.weight, "cosine")
            z, e = F.normalize(vectors, dim=-1), self.lookup(codes)
            loss = self.commitment * F.mse_loss(z, e.detach())
            if self.embedding.weight.requires_grad:
                loss = loss + F.mse_loss(e, z.detach())
            return z + (e - z).detach(), loss, codes


class VitVqgan(nn.Module):
    """Encoder, codebook and decoder; the decoder has the encoder's size where none is given.

    An image size that the patch size does not divide, or a codebook without codes or width, is a ValueError.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        codebook_size: int,
        code_width: int,
        encoder: VqganSize,
        decoder: VqganSize | None = None,
        commitment: float = 0.25,
    ) -> None:
        super().__init__()
        if patch_size < 1 or image_size < 1 or image_size % patch_size:
            near = max(1, image_size // max(patch_size, 1)) * patch_size
            raise ValueError(
                f"image_size {image_size} with patch_size {patch_size}; expected a multiple of patch_size; "
                f"use image_size {near}"
            )
        if codebook_size < 1 or code_width < 1:
            raise ValueError(
                f"codebook of {codebook_size} codes x {code_width}; expected 1 or more of each; raise them"
            )
        decoder = decoder or encoder
        self.image_size, self.patch_size, self.sizes = image_size, patch_size, (encoder, decoder)
        self.grid = (image_size // patch_size,) * 2
        self.num_tokens = self.grid[0] * self.grid[1]
        self.encoder = Encoder(encoder, self.grid, patch_size)
        self.decoder = Decoder(decoder, self.grid, patch_size)
        self.quantizer = Quantizer(codebook_size, code_width, commitment)
        self.pre_quant = nn.Linear(encoder.width, code_width)
        self.post_quant = nn.Linear(code_width, decoder.width)
        self.apply(init_weights)
        self.init_pixel_layers()

    @torch.no_grad()
    def init_pixel_layers(self) -> None:
        """Let the first and last layer begin as if pixels had mean 0 and deviation 1, not 0.5 and 0.25.

        Beside the positions, the network would hardly see patches in [0,1], and would first have to learn grey.
        """
        first, last = self.encoder.to_patch_embedding.get_parameter, self.decoder.to_pixel.get_parameter
        weight = first("0.weight").mul_(4.0)
        first("0.bias").copy_(-0.5 * weight.sum(dim=(1, 2, 3)))
        last("1.weight").mul_(0.25)
        last("1.bias").fill_(0.5)

    def settings(self) -> dict[str, Any]:
        """Plain values that, with the state dict, rebuild it (`build_vqgan`)."""
        codebook_size, code_width = self.quantizer.embedding.weight.shape
        encoder, decoder = map(asdict, self.sizes)
        numbers = {"image_size": self.image_size, "patch_size": self.patch_size}
        numbers |= {"codebook_size": codebook_size, "code_width": code_width}
        return {**numbers, "encoder": encoder, "decoder": decoder}

    def encode(self, images: Tensor) -> Tensor:
        """Vectors [B,L,D], not quantised, of images [B,3,H,W] in [0,1]."""
        return self.pre_quant(self.encoder(images))

    def decode(self, rows: Tensor) -> Tensor:
        """Images [B,3,H,W], not clamped, of normalised codebook rows [B,L,D]."""
        return self.decoder(self.post_quant(rows))


def init_weights(module: nn.Module) -> None:
    """Draw linear weights Xavier-uniform, convolutions as the linear layers they are, zero all biases."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight.detach().flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
