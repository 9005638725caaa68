"""What every tokenizer is. Shapes: B batch, L = h*w tokens, K codes, D width of a code."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Tokenizer(Protocol):
    """uint8 images [B,3,H,W] <-> tokens int64 [B,L].

    The same pixels give the same tokens on every device; where a network computes, up to its rounding.
    """

    family: str  # name in the registry
    image_size: int  # H = W that `encode` expects
    resize: str  # how images are brought to that size: squash | crop
    grid: tuple[int, int]  # (h, w)
    metric: str  # how a vector finds its nearest code: cosine | l2

    @property
    def codebook(self) -> Tensor:
        """[K,D] float32."""

    def encode(self, images: Tensor) -> Tensor:
        """Tokens int64 [B,L], raster order, of uint8 images [B,3,H,W]; ValueError for another size."""

    def decode(self, tokens: Tensor) -> Tensor:
        """uint8 images [B,3,H,W] of tokens [B,L]."""

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place."""

    def select_codes(self, kept: Tensor) -> Self:
        """A tokenizer with only the codes `kept` int64 [K'], in that order; its config says that it was cut."""

    def config(self) -> dict[str, Any]:
        """Plain values that, with `tensors`, rebuild it."""

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors that, with `config`, rebuild it."""

    @classmethod
    def build(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The inverse of `config` and `tensors`."""


def check_images(images: Tensor, image_size: int) -> None:
    """ValueError unless images are uint8 [B,3,H,W] of that size."""
    if images.dtype != torch.uint8 or images.shape[1:] != (3, image_size, image_size):
        raise ValueError(
            f"images {images.dtype} {tuple(images.shape)}; expected uint8 [B,3,{image_size},{image_size}]; "
            "decode them with the tokenizer's image_size and resize"
        )


def fingerprint(tokenizer: Tokenizer) -> str:
    """16 hex digits that two tokenizers share only if they compute the same: a hash of settings and weights."""
    digest = hashlib.sha256(json.dumps([tokenizer.family, tokenizer.config()], sort_keys=True).encode())
    for name, tensor in sorted(tokenizer.tensors().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
