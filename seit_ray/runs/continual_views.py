"""Images as an arm of continual learning sees them, as pixels or as tokens, under the same positions. n rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from seit_ray.augment.chain import Augment, Augmented
from seit_ray.augment.images import ImageAugment
from seit_ray.augment.random import StepRandom
from seit_ray.batches.images import SHARD_ROWS, ImageStream
from seit_ray.runs.continual_settings import ContinualSettings
from seit_ray.runs.settings import ClassifierSettings
from seit_ray.runs.train import model_settings
from seit_ray.tokenizers.contract import Tokenizer, fingerprint

Streams = Mapping[str, ImageStream]  # train and val
Augmentation = Callable[[Tensor, Tensor, StepRandom], Augmented]
ENCODER = ("encoder.", "pre_quant.")  # entries of a ViT-VQGAN; of its decoder, no training makes use


class View(Protocol):
    """What a model of an arm sees of a split.

    identity: what a finished run says of what it eats; shared_bytes: what a memory needs beside its exemplars.
    """

    identity: dict[str, Any]
    shared_bytes: int

    def read(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Rows int64 [n] of a split: uint8 images [n,3,S,S], or tokens uint16 [n,L]."""

    def model_settings(self, num_classes: int) -> dict[str, Any]:
        """Keywords of `build_model` for a classifier."""

    def augmentation(self) -> Augmentation:
        """Of a training."""


class PixelView:
    """Images themselves, for a transformer whose patches cover what those of tokens do: `token_side` pixels a token."""

    shared_bytes = 0

    def __init__(self, streams: Streams, model: ClassifierSettings, settings: ContinualSettings, *, token_side: int):
        self.streams, self.settings = streams, settings
        decoding = streams["train"].decoding
        self.side = decoding.image_size
        kernel, stride = model.stem_kernel * token_side, (model.stem_stride or model.stem_kernel) * token_side
        self.model = replace(
            model,
            inputs="pixels",
            standardize=False,
            stem_kernel=kernel,
            stem_stride=stride,
            stem_padding=model.stem_padding * token_side,
        )
        self.identity = {"image_size": self.side, "patch_size": kernel, "resize": decoding.resize}

    def read(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Images uint8 [n,3,S,S]."""
        return self.streams[split].host_batch(rows).inputs.numpy()

    def model_settings(self, num_classes: int) -> dict[str, Any]:
        """Keywords of `build_model`."""
        return model_settings(self.model, grid=(self.side, self.side), num_classes=num_classes)

    def augmentation(self) -> Augmentation:
        """MixUp and CutMix, if asked for."""
        mixup, cutmix = self.settings.mixup_alpha, self.settings.cutmix_alpha
        return ImageAugment(crop_area=None, flip_prob=0.0, mixup_alpha=mixup, cutmix_alpha=cutmix)


class TokenView:
    """Tokens of the images, made when they are first asked for and kept: 2 L bytes each."""

    def __init__(
        self,
        streams: Streams,
        tokenizer: Tokenizer,
        model: ClassifierSettings,
        settings: ContinualSettings,
        device: torch.device,
    ):
        self.streams, self.tokenizer, self.model, self.settings = streams, tokenizer, model, settings
        grid = tokenizer.grid
        self.tokens = {name: np.zeros((len(s), grid[0] * grid[1]), np.uint16) for name, s in streams.items()}
        self.is_made = {name: np.zeros(len(s), bool) for name, s in streams.items()}
        self.shared_bytes = tokenizer_bytes(tokenizer, encoder_travels=settings.encoder_travels)
        mark = fingerprint(tokenizer)
        self.identity = {"tokenizer": mark, "grid": list(grid), "codebook_size": len(tokenizer.codebook)}
        self.device, self.codebook = device, tokenizer.codebook.clone()
        tokenizer.to(device)

    def read(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Tokens uint16 [n,L]."""
        missing = np.unique(rows[~self.is_made[split][rows]])
        for start in range(0, len(missing), SHARD_ROWS):
            some = missing[start : start + SHARD_ROWS]
            images = self.streams[split].host_batch(some).inputs.to(self.device)
            self.tokens[split][some] = self.tokenizer.encode(images).cpu().numpy().astype(np.uint16)
            self.is_made[split][some] = True
        return self.tokens[split][rows]

    def model_settings(self, num_classes: int) -> dict[str, Any]:
        """Keywords of `build_model`."""
        rows = {"codebook": self.codebook} if self.model.inputs == "codebook" else {}
        sizes = {"grid": self.tokenizer.grid, "num_codes": len(self.codebook), "num_classes": num_classes}
        return model_settings(self.model, **sizes, **rows)

    def augmentation(self) -> Augmentation:
        """MixUp and CutMix of the codebook's rows, if asked for; nearest codes of them for a learned table."""
        return Augment(
            self.codebook.to(self.device),
            grid=self.tokenizer.grid,
            output="maps" if self.model.inputs == "codebook" else "codes",
            metric=self.tokenizer.metric,
            mixup_alpha=self.settings.mixup_alpha,
            cutmix_alpha=self.settings.cutmix_alpha,
        )


def tokenizer_bytes(tokenizer: Tokenizer, *, encoder_travels: bool) -> int:
    """Bytes of what a memory of tokens cannot do without: the codebook, and a network that makes tokens of new images.

    encoder_travels: whether that network is with the memory; else whoever sends images sends tokens. A centroid
    tokenizer is its codebook.
    """
    kept = {"codebook": tokenizer.codebook}
    if encoder_travels:
        kept |= {name: value for name, value in tokenizer.tensors().items() if name.startswith(ENCODER)}
    return len(save_safetensors({name: value.detach().cpu().contiguous() for name, value in kept.items()}))
