"""What an arm stores to train on, counted in real bytes; and how much of it fits into a budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from seit_ray.storage import Folder

MARKER = "bytes.json"
NEAR = 0.01  # of the images: how near to the most that fit is near enough


@dataclass(frozen=True)
class Stored:
    """What train takes: bytes of images or tokens with their labels, by encoding, and of the tokenizer; and counts.

    label_bytes: those of the labels alone, in the smallest encoding, which data_bytes has too.
    white_level: of grey images of 16 bits, which are stored as they are, as the source says.
    """

    images: int
    test_images: int
    data_bytes: dict[str, int]
    label_bytes: int
    tokenizer_bytes: int = 0
    rejected: int = 0
    white_level: int | None = None
    figures: dict[str, float] = field(default_factory=dict)

    def total(self, encoding: str | None = None) -> int:
        """All bytes, in the smallest encoding where none is named."""
        data = self.data_bytes[encoding] if encoding else min(self.data_bytes.values())
        return data + self.tokenizer_bytes


def write_stored(folder: Folder, stored: Stored) -> None:
    """The marker."""
    folder.write(MARKER, json.dumps(asdict(stored), indent=1).encode())


def read_stored(folder: Folder) -> Stored:
    """What a finished store says of itself."""
    return Stored(**json.loads(folder.read(MARKER)))


def fitting(of: Callable[[int], Stored], whole: Stored, budget: int) -> Stored:
    """The most images whose bytes fit, to within NEAR, as `of(num)` stores them; ValueError where not one does."""
    if not whole.images:
        raise ValueError(f"budget {budget} bytes of a store without images; expected some; mend the source")
    each = (whole.total() - whole.tokenizer_bytes) / whole.images
    most = whole.images + 1  # so many do not fit, or are not there
    num = max(0, min(whole.images, int((budget - whole.tokenizer_bytes) / each)))
    found: Stored | None = None
    last = 0
    while num > 0:
        stored, last = of(num), num
        if stored.total() <= budget:
            found = stored
        else:
            most = num
        least = found.images if found is not None else 0
        if most - least <= max(1.0, NEAR * least):
            break
        share = budget / stored.total()
        guess = int(num * share) if found is None else round(num * share)
        num = min(max(guess, least + 1), most - 1)
    if found is None:
        raise ValueError(
            f"budget {budget} bytes, into which not one image fits ({each:.0f} bytes each, {whole.tokenizer_bytes} for "
            "the tokenizer); expected more; raise it"
        )
    return found if last == found.images else of(found.images)
