"""From pixels to class scores in one pass: a finished run with the tokenizer that it was trained with."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from seit_ray.batches.crop import center_crop_tokens
from seit_ray.shards.dataset import MARKER, TokenDataset
from seit_ray.storage import Folder
from seit_ray.tokenizers import Tokenizer, load_tokenizer
from seit_ray.training.exports import import_model

__all__ = ["ImageClassifier"]


class ImageClassifier:
    """uint8 images [B,3,H,W] of `image_size`, brought to it by `resize` -> logits [B,C] of `class_names`.

    `decode` is the mode, exact or fast, in which the images of the run's token dataset were decoded.

    A model of tokens sees those of its tokenizer, and their middle where its grid is smaller; a model of pixels sees
    the images themselves, and has no tokenizer.
    """

    def __init__(self, model: nn.Module, about: dict[str, Any], tokenizer: Tokenizer | None, decode: str = "exact"):
        self.model, self.tokenizer, self.class_names = model.eval(), tokenizer, about["class_names"]
        if tokenizer is None:
            self.image_size, self.resize = about["image_size"], about["resize"]
        else:
            self.image_size, self.resize = tokenizer.image_size, tokenizer.resize
        self.decode, self.device = decode, torch.device("cpu")

    @classmethod
    def load(cls, run: Folder, *, tokenizer: Folder | None = None, weights: str = "model") -> Self:
        """The classifier of a finished run; its tokenizer lies in `tokenizer`, or in the run's token dataset.

        ValueError when the run is not finished or no classifier, and when its tokenizer is not found or another.
        """
        model, about = import_model(run, "classifier", weights)
        if about["settings"].get("inputs") != "pixels":
            return cls(model, about, tokenizer_of(run, about, tokenizer), decode_of(run, about))
        if tokenizer is not None:
            raise ValueError(
                f"tokenizer {tokenizer.uri} for {run.uri}, a model of pixels; expected none; leave tokenizer out"
            )
        if not {"image_size", "resize"} <= set(about):
            raise ValueError(
                f"{run.uri}/model.json does not say how images were made to fit; expected image_size and resize; "
                "export the run again"
            )
        return cls(model, about, None)

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place."""
        self.device = torch.device(device)
        self.model.to(self.device)
        if self.tokenizer is not None:
            self.tokenizer.to(str(self.device))
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
            if tuple(self.tokenizer.grid) != self.model.grid:
                inputs = center_crop_tokens(inputs, self.tokenizer.grid, self.model.grid)
        return self.model(inputs).float()


def decode_of(run: Folder, about: dict[str, Any]) -> str:
    """How the images of a run's token dataset were decoded; exact where that is not known."""
    data = run.at(about["data"]) if about.get("data") else None
    if data is None or not data.exists(MARKER):
        return "exact"
    return TokenDataset(data).info.plan.get("decode", "exact")


def tokenizer_of(run: Folder, about: dict[str, Any], given: Folder | None) -> Tokenizer:
    """The tokenizer whose fingerprint a run's model.json names, from a given folder or from the run's dataset."""
    folder = given
    if folder is None and about.get("data"):
        folder = run.at(about["data"]).join("tokenizer")
    if folder is None or not folder.exists("tokenizer.json"):
        where = f"in {folder.uri}" if folder is not None else "known"
        raise ValueError(
            f"tokenizer {about.get('tokenizer')} of {run.uri} is not {where}; expected tokenizer.json; name its folder "
            "with tokenizer=FOLDER"
        )
    tokenizer, found = load_tokenizer(folder)
    if found["fingerprint"] != about.get("tokenizer"):
        raise ValueError(
            f"{folder.uri} has fingerprint {found['fingerprint']}; expected {about.get('tokenizer')}, that {run.uri} "
            "was trained with; name the folder of that one with tokenizer=FOLDER"
        )
    return tokenizer
