"""The quickstart's pictures: originals beside decoded tokens, masked tokens beside what a model fills in."""

from __future__ import annotations

import numpy as np
import torch

from seit_ray.augment.masking import mask_noise
from seit_ray.augment.random import StepRandom
from seit_ray.models.exports import import_model
from seit_ray.report.page import Page
from seit_ray.report.pictures import contact_sheet, grey_out
from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import Tokenizer

NUM_PICTURES = 6
MASK_RATIO = 0.5  # of the pictures of masked tokens


def add_pictures(
    page: Page, tokenizer: Tokenizer, images: np.ndarray, quality: float, pretrained: Folder | None
) -> None:
    """Some of the held-out images uint8 [N,3,H,W]; what is filled in only where there is a pre-trained model."""
    pixels = images[np.linspace(0, len(images) - 1, NUM_PICTURES).astype(int)]
    tokens = tokenizer.encode(torch.from_numpy(pixels))
    decoded = tokenizer.decode(tokens)
    page.add_picture(
        "What tokens keep",
        contact_sheet([pixels, decoded], ["original", "decoded"]),
        f"Held-out images at {tokenizer.image_size} px, and what their {tokens.shape[1]} tokens decode to "
        f"({quality:.1f} dB).",
    )
    if pretrained is None:
        return
    model, _ = import_model(pretrained, "mtm")
    noise = mask_noise(StepRandom(0, 0, slice(0, len(tokens)), len(tokens)), model.num_patches)
    mask = noise.argsort(1).argsort(1) < round(model.num_patches * MASK_RATIO)
    filled = tokenizer.decode(model.predict(tokens, mask))
    page.add_picture(
        "What the pre-trained model fills in",
        contact_sheet(
            [decoded, grey_out(decoded, mask.view(-1, *model.patch_grid)), filled],
            ["decoded", "masked", "filled in"],
        ),
        f"{MASK_RATIO:.0%} of the units are masked; the model predicts their codes from the rest.",
    )
