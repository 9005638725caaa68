"""Rows of a study of transfer that learn without labels, as values. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# what an encoder that learns without labels reads, whatever `model` says of a classifier
PLAIN = {"standardize": False, "stem_pixels": False, "stem_layers": 0}


@dataclass(frozen=True)
class Method:
    """A pre-training: by which objective, what its morphing compares with, on tokens or on the images themselves.

    morph: "" for none; "set", what `pretrain.dtm` says; else the kind of target.
    """

    objective: str
    morph: str = ""
    on_images: bool = False


METHODS = {
    "mtm": Method("mtm"),
    "dtm": Method("mtm", "set"),
    "dtm_codebook": Method("mtm", "codebook"),
    "dtm_run": Method("mtm", "run"),
    "dtm_stream": Method("mtm", "stream"),
    "ccvit": Method("ccvit"),
    "ccvit_dtm": Method("ccvit", "set"),
    "ccvit_images": Method("ccvit", on_images=True),
    "dtm_images": Method("dtm", "teacher", on_images=True),
}
EMA_DECAY = 0.996  # of what morphing compares with, where the loop has no average of its own
SCRATCH, SCRATCH_CCVIT, ON_PIXELS = "scratch", "scratch_ccvit", "pixels"
DRAWN = (SCRATCH, SCRATCH_CCVIT)  # not trained before


def reads(row: str) -> dict[str, Any]:
    """Fields of a classifier that a row decides, for it has learnt to read so; none where `model` does.

    CCViT reads rows of the codebook, which are pixels, and so does what was trained on images.
    """
    if row == SCRATCH_CCVIT:
        return {"encoder": "beit", "inputs": "codebook", **PLAIN}
    method = METHODS.get(row)
    if method is None:
        return {}
    return {"inputs": "learned" if method.objective == "mtm" else "codebook", **PLAIN}
