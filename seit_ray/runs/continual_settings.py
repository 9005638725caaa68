"""What is set of class-incremental learning: what is kept of old classes, how new ones are learnt. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder

BALANCES = ("finetune", "align", "none")
JPEG = re.compile(r"jpeg_([1-9][0-9]?)")
MOST_QUALITY = 95  # beyond it, Pillow advises against JPEG


@dataclass(frozen=True)
class Arm:
    """A way to keep earlier classes. sees: tokens | pixels, what its model is trained on, and all of its memory too.

    keeps: plain or compact (tokens), jpeg (of a quality) or raw (pixels); None keeps nothing. joint: nothing need be
    kept, since every step begins anew with all images of the classes so far (the bound).
    """

    name: str
    sees: str
    keeps: str | None = None
    quality: int = 0
    joint: bool = False


ARMS = {
    arm.name: arm
    for arm in (
        Arm("tokens_compact", "tokens", "compact"),
        Arm("tokens_plain", "tokens", "plain"),
        Arm("raw", "pixels", "raw"),
        Arm("none", "pixels"),
        Arm("none_tokens", "tokens"),
        Arm("joint", "pixels", joint=True),
        Arm("joint_tokens", "tokens", joint=True),
    )
}


def check_classes_of(counts: Mapping[str, Sequence[int] | np.ndarray], names: Sequence[str], uri: str) -> None:
    """ValueError unless there is a val split, and every class has images in both; counts: of each class, by split."""
    if "val" not in counts:
        raise ValueError(f"{uri} has no val split; expected one to measure on; set val_fraction, or name a folder val")
    for split in ("train", "val"):
        empty = next((name for name, number in zip(names, counts[split], strict=True) if not number), None)
        if empty is not None:
            raise ValueError(
                f"class {empty} of {uri} has no image in {split}; expected some; leave the class out by "
                "source.exclude, or raise max_images"
            )


def arm_named(name: str) -> Arm:
    """The arm of a name, jpeg_1 to jpeg_95 among them; ValueError for another."""
    found = JPEG.fullmatch(name)
    if found and int(found[1]) <= MOST_QUALITY:
        return Arm(name, "pixels", "jpeg", int(found[1]))
    if name not in ARMS:
        raise ValueError(
            f"arm {name!r}; expected one of {', '.join(ARMS)}, or jpeg_1 to jpeg_{MOST_QUALITY}; choose some"
        )
    return ARMS[name]


@dataclass(frozen=True, kw_only=True)
class ContinualSettings:
    """The protocol and the method, the same for all arms; fields as in `config.Continual`."""

    num_steps: int = 5
    order_seed: int = 1993
    balance: str = "finetune"
    balance_epochs: int = 10
    balance_rate: float = 0.1
    encoder_travels: bool = True
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The images of a study, of a side in pixels, listed once in a folder that all trials share.

    val_fraction and seed are those of the hold-out, seed also that of a sample of max_images of each split.
    """

    images: Folder
    source: SourceSettings
    listing: Folder
    image_size: int
    resize: str
    val_fraction: float = 0.0
    seed: int = 0
    max_images: int | None = None


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Of one trial: what is kept, in how many bytes (None: the arm keeps nothing), and how it is chosen."""

    arm: str
    budget_bytes: int | None = None
    selection: str = "herding"


def codebook_bytes(num_codes: int, width: int) -> int:
    """Bytes of a codebook of floats as safetensors: its numbers behind a header, which ends on a multiple of 8."""
    size = 4 * num_codes * width
    header = f'{{"codebook":{{"dtype":"F32","shape":[{num_codes},{width}],"data_offsets":[0,{size}]}}}}'
    return 8 + -(-len(header) // 8) * 8 + size


def check_budget(memory: MemorySettings, shared_bytes: int) -> None:
    """ValueError where a budget does not even hold what a memory of tokens cannot do without."""
    if memory.budget_bytes is not None and memory.budget_bytes <= shared_bytes:
        raise ValueError(
            f"budgets {memory.budget_bytes:,} of arm {memory.arm}; expected more than {shared_bytes:,}, the bytes "
            "of its tokenizer alone; raise it, or take fewer or smaller codes (centroid.codebook_size, "
            "centroid.patch_size)"
        )
