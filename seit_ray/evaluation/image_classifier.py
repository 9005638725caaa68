"""From pixels to class scores in one pass: a finished run with the tokenizer that it was trained with."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from seit_ray.batches.crop import center_crop_tokens
from seit_ray.evaluation.image_run import read_image_run
from seit_ray.models.exports import import_model
from seit_ray.models.vit import TokenViT
from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.precision import autocast, precision_of

__all__ = ["ImageClassifier"]


class ImageClassifier:
    """uint8 images [B,3,H,W] of `image_size`, brought to it by `resize` -> logits [B,C] of `class_names`.

    `decode` is the mode, exact or fast, in which the images of the run's token dataset were decoded.

    A model of tokens sees those of its tokenizer, and their middle where its grid is smaller; a model of pixels sees
    the images themselves, and has no tokenizer.
    """

    def __init__(self, model: TokenViT, about: dict[str, Any], tokenizer: Tokenizer | None, decode: str = "exact"):
        self.model, self.tokenizer, self.class_names = model.eval(), tokenizer, about["class_names"]
        if tokenizer is None:
            self.image_size, self.resize = about["image_size"], about["resize"]
        else:
            self.image_size, self.resize = tokenizer.image_size, tokenizer.resize
        self.about, self.decode, self.device = about, decode, torch.device("cpu")

    @classmethod
    def load(cls, run: Folder, *, tokenizer: Folder | None = None, weights: str = "model") -> Self:
        """The classifier of a finished run; see `read_image_run`."""
        found = read_image_run(run, tokenizer=tokenizer, weights=weights)
        model, about = import_model(run, "classifier", weights)
        coder = load_tokenizer(found.tokenizer)[0] if found.tokenizer is not None else None
        return cls(model, about, coder, found.decode)

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place."""
        self.device = torch.device(device)
        self.model.to(self.device)
        if self.tokenizer is not None:
            self.tokenizer.to(self.device)
        return self

    def check(self) -> None:
        """Classify one black image: ValueError when tokenizer and model do not fit, or it cannot encode."""
        self.logits(torch.zeros(1, 3, self.image_size, self.image_size, dtype=torch.uint8))

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 [B,C], on the classifier's device, of uint8 images [B,3,H,W]."""
        if self.device.type == "cuda" and not images.is_cuda:
            images = images.pin_memory()
        inputs = images.to(self.device, non_blocking=True)
        if self.tokenizer is not None:
            inputs = self.tokenizer.encode(inputs)
            if self.tokenizer.grid != self.model.grid:
                inputs = center_crop_tokens(inputs, self.tokenizer.grid, self.model.grid)
        with autocast(self.device, precision_of(self.about, self.device)):
            return self.model(inputs).float()
