"""What the bytes of stored tokens are worth: the same linear classifier on what else would fit into them.

Legend: N images of a split, C = 1 (grey) or 3 channels, S side in pixels, at most LINEAR_SIDE.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.evaluation.linear_probe import linear_probe
from seit_ray.progress import Progress, silent
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.parquet import TokenRows
from seit_ray.tokenizers.contract import Tokenizer

Pixels = tuple[np.ndarray, np.ndarray]  # uint8 [N,3,S,S], labels [N]

LINEAR_SIDE = 32  # sides in pixels of what the classifier sees: more tell a linear model little, and cost it much
DRAWS = 3  # of the images that fit into the bytes: few images are a matter of luck
BITS = (8, 4)  # of a pixel of the smaller images
CODEC = pa.Codec("zstd", compression_level=19)  # so that smaller images do not pay for what can be squeezed
DECODED_TOGETHER = 2048


@dataclass(frozen=True)
class Arm:
    """What is stored of how many images, in how many bytes each, and what the classifier makes of it (a share)."""

    what: str
    bytes_per_image: float
    images: int
    top1: float | None


def compare(
    dataset: TokenDataset,
    tokenizer: Tokenizer,
    pixels: dict[str, Pixels],
    num_classes: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Arm]:
    """Tokens; as many source images as fit into their bytes; smaller images of those bytes; all pixels.

    `pixels`: train and val, of all images or of a sample; where it is one, each arm has the same share of what it
    would have. Bytes are those of the token column, and of the source's files. A logistic regression is fitted for each
    and scored on all of val; an arm whose images are of one class has no top-1.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # small products: more threads only wait for each other
    budget, source = bytes_per_image(dataset)
    grey = all((images[:, :1] == images).all() for images, _ in pixels.values())
    seen = {
        name: (torch.from_numpy(grey_or_all(images, grey)), of(labels)) for name, (images, labels) in pixels.items()
    }
    (train, labels), val = seen["train"], seen["val"]
    num = len(train)

    def top1(images: Tensor, of_images: Tensor, others: tuple[Tensor, Tensor]) -> float | None:
        if len(of_images.unique()) < 2:
            return None
        return linear_probe(flat(images), of_images, flat(others[0]), others[1], num_classes, seed=seed).top1

    progress("report", 0, 5, "logistic regression on tokens")
    decoded = {split: decoded_split(dataset, tokenizer, split, grey, len(seen[split][0]), seed) for split in seen}
    arms = [Arm("all images, as tokens", budget, len(decoded["train"][0]), top1(*decoded["train"], decoded["val"]))]

    progress("report", 1, 5, "logistic regression on fewer images")
    fewer = min(num, int(num * budget / source))
    draws = [torch.from_numpy(np.random.default_rng([seed, i]).permutation(num)[:fewer]) for i in range(DRAWS)]
    found = [share for rows in draws if (share := top1(train[rows], labels[rows], val)) is not None]
    arms.append(Arm("fewer images, as they are", source, fewer, statistics.fmean(found) if found else None))

    progress("report", 2, 5, "logistic regression on smaller images")
    for bits in BITS:
        side, each = fitting_side(train, budget, bits)
        small = smaller(train, side, bits), labels, (smaller(val[0], side, bits), val[1])
        arms.append(Arm(f"all images, at {side}x{side} pixels of {bits} bits", each, num, top1(*small)))

    progress("report", 4, 5, "logistic regression on all pixels")
    arms.append(Arm("all images, as they are", source, num, top1(train, labels, val)))
    return arms


def bytes_per_image(dataset: TokenDataset) -> tuple[float, float]:
    """Bytes an image of the token column, and of the source, over all splits."""
    splits = dataset.info.splits.values()
    total = sum(split.rows for split in splits)
    return sum(s.token_bytes for s in splits) / total, sum(s.source_bytes for s in splits) / total


def decoded_split(
    dataset: TokenDataset, tokenizer: Tokenizer, split: str, grey: bool, num: int, seed: int
) -> tuple[Tensor, Tensor]:
    """uint8 [N,C,S,S] that the tokens of a split, or of `num` of its rows, decode to, and labels int64 [N]."""
    rows: TokenRows = dataset.read_split(split)
    chosen = np.arange(len(rows))
    if num < len(rows):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:num])
    tokens = torch.from_numpy(rows.tokens[chosen].astype(np.int64))
    parts = [
        smaller(torch.from_numpy(grey_or_all(tokenizer.decode(part).numpy(), grey)), LINEAR_SIDE)
        for part in tokens.split(DECODED_TOGETHER)
    ]
    return torch.cat(parts), of(rows.meta["label"].to_numpy()[chosen])


def grey_or_all(images: np.ndarray, grey: bool) -> np.ndarray:
    """One channel of grey images, which carry the same numbers three times."""
    return np.ascontiguousarray(images[:, :1]) if grey else images


def of(labels: np.ndarray) -> Tensor:
    """Labels as int64."""
    return torch.from_numpy(labels.astype(np.int64))


def flat(images: Tensor) -> Tensor:
    """uint8 [N,C,S,S] -> float32 [N,C*S*S] in [0,1]."""
    return images.flatten(1).float() / 255


def smaller(images: Tensor, side: int, bits: int = 8) -> Tensor:
    """uint8 [N,C,S,S] averaged down to at most `side`, with so many bits a value; of smaller ones the size is kept."""
    if images.shape[-1] > side:
        images = F.interpolate(images.float(), (side, side), mode="area").round_().to(torch.uint8)
    if bits == 8:
        return images
    steps = 2**bits - 1
    return (images.float() * (steps / 255)).round_().mul_(255 / steps).round_().to(torch.uint8)


def fitting_side(images: Tensor, budget: float, bits: int) -> tuple[int, float]:
    """The largest side whose images take no more than the budget, and their bytes each; at least 1.

    They are stored together and compressed, which an image alone, in a file of its own, would not be.
    """
    best = stored_bytes(smaller(images, 1, bits), bits)
    side = 1
    for larger in range(2, images.shape[-1] + 1):
        each = stored_bytes(smaller(images, larger, bits), bits)
        if each > budget:
            break
        side, best = larger, each
    return side, best


def stored_bytes(images: Tensor, bits: int) -> float:
    """Bytes an image of uint8 [N,C,S,S] of so many bits a value, packed and compressed together."""
    values = images.flatten(1).numpy()
    if bits == 4:
        values = np.rint(values.ravel() / 17).astype(np.uint8)  # 255 / 15
        values = np.concatenate([values, values[: len(values) % 2]])
        values = values[::2] << 4 | values[1::2]
    return len(CODEC.compress(values.tobytes())) / len(images)
