"""From pixels to a class a pixel in one pass: a finished segmenter with the tokenizer that it was trained with."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from seit_ray.evaluation.image_run import read_image_run
from seit_ray.evaluation.segmentation import WindowedSegmenter, labels_at
from seit_ray.images.label_maps import MapLabels
from seit_ray.models.exports import import_model
from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.precision import autocast, precision_of

__all__ = ["ImageSegmenter"]


class ImageSegmenter:
    """uint8 images [B,3,H,W] of `image_size` -> logits of each pixel, or label maps of any size.

    As `ImageClassifier`; `labels` says by which values its maps are written, those that it was trained with.
    """

    def __init__(self, model: nn.Module, about: dict[str, Any], tokenizer: Tokenizer | None, decode: str = "exact"):
        self.tokenizer, self.class_names, self.about, self.decode = tokenizer, about["class_names"], about, decode
        if tokenizer is None:
            self.image_size, self.resize = about["image_size"], about["resize"]
            grid = (self.image_size, self.image_size)
        else:
            self.image_size, self.resize, grid = tokenizer.image_size, tokenizer.resize, tokenizer.grid
        self.windowed = WindowedSegmenter(model.eval(), grid, about.get("stride"))
        self.labels = MapLabels(len(self.class_names), about["void"])
        self.device = torch.device("cpu")

    @classmethod
    def load(cls, run: Folder, *, tokenizer: Folder | None = None, weights: str = "model") -> Self:
        """The segmenter of a finished run; see `read_image_run`."""
        found = read_image_run(run, tokenizer=tokenizer, weights=weights)
        model, about = import_model(run, "segmenter", weights)
        coder = load_tokenizer(found.tokenizer)[0] if found.tokenizer is not None else None
        return cls(model, about, coder, found.decode)

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place."""
        self.device = torch.device(device)
        self.windowed.model.to(self.device)
        if self.tokenizer is not None:
            self.tokenizer.to(self.device)
        return self

    def check(self) -> None:
        """Label one black image: ValueError when tokenizer and model do not fit, or it cannot encode."""
        self.logits(torch.zeros(1, 3, self.image_size, self.image_size, dtype=torch.uint8))

    def tokens(self, images: Tensor) -> Tensor:
        """Images uint8 [B,3,H,W] on the device -> what the model reads: tokens int64 [B,L], or they themselves."""
        return images if self.tokenizer is None else self.tokenizer.encode(images).long()

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 [B,C,h,w] on the segmenter's device."""
        if self.device.type == "cuda" and not images.is_cuda:
            images = images.pin_memory()
        inputs = self.tokens(images.to(self.device, non_blocking=True))
        with autocast(self.device, precision_of(self.about, self.device)):
            return self.windowed(inputs).float()

    @torch.inference_mode()
    def label_map(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """The likeliest class uint8 [H,W] of each pixel, of logits [C,h,w] of one image, at its own size."""
        return labels_at(logits, size).to(torch.uint8)
