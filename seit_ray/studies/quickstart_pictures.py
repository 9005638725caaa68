"""The quickstart's pictures: originals beside decoded tokens, masked tokens beside what a model fills in."""

from __future__ import annotations

import numpy as np
import torch

from seit_ray.report.page import Page
from seit_ray.report.pictures import contact_sheet
from seit_ray.storage import Folder
from seit_ray.studies.fill_in import filled_in
from seit_ray.tokenizers.contract import Tokenizer

NUM_PICTURES = 6


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
    rows, words = filled_in(pretrained, tokenizer, tokens)
    sheet = contact_sheet([pictures for _, pictures in rows], [title for title, _ in rows])
    page.add_picture("What the pre-trained model fills in", sheet, words)
