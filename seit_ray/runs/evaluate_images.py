"""Figures of a finished classifier on images as they come: decode, tokenise and classify in one pass, on any ranks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from seit_ray.evaluation.classification import add_counts, figures_of_views, mean_of
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.images.decode import MAX_PIXELS
from seit_ray.images.decoded import DecodedImages, Decoding, ahead, decoded_chunks
from seit_ray.images.fetch import MAX_BYTES
from seit_ray.images.labels import label_table, present_classes
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.training.world import World

MAX_THREADS, ROWS_PER_PART = 8, 256  # that decode, and what each of them holds


def evaluate_images(
    *,
    images: Folder,
    source: SourceSettings,
    run: Folder,
    split: str,
    val_fraction: float,
    seed: int,
    tokenizer: Folder | None,
    weights: str,
    batch_size: int,
    world: World,
    classes: str = "all",
    mirror: bool = False,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    on_progress: Progress = silent,
    **hooks: object,
) -> dict[str, Any]:
    """Figures of `runs.evaluate_tokens` on a split of a source, and listed = samples + the images in rejected.

    Labels are matched to the run's classes by name. ValueError for classes that the run does not know, for images
    without a label, and when none can be read. classes "present": scored among those that the split has alone, as
    ImageNet-R and -A are. mirror: the figures of the mean of the logits of each image and of its mirror image too, as
    "mirrored".
    """
    del hooks  # one pass over a split: no metrics on the way
    classifier = ImageClassifier.load(run, tokenizer=tokenizer, weights=weights).to(world.device)
    names = classifier.class_names
    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        manifest = list_images(
            images, source, Folder(name), val_fraction=val_fraction, seed=seed, rows_per_part=ROWS_PER_PART
        )
        check_alike(manifest, world, images.uri)
        numbers = label_table(manifest, split, names, images.uri, run.uri)
        chosen = scored_classes(classes, manifest, split, numbers, len(names))
        total = manifest.splits[split].num_images
        decoding = Decoding(
            classifier.image_size, classifier.resize, source.image_column, classifier.decode, max_bytes, max_pixels
        )
        views = 2 if mirror else 1
        counts = torch.zeros(views, len(names), 4, dtype=torch.float64, device=world.device)
        rejected: list[dict[str, Any]] = []
        for chunk in decoded_split(manifest, split, images, decoding, world, on_progress):
            count_images(counts, classifier, chunk, numbers, batch_size, chosen)
            rejected += chunk.rejected.select(["id", "key", "reason"]).to_pylist()
    counts, rejected = world.sum(counts), gathered(rejected, world)
    check_any_read(rejected, total, split, images.uri)
    scored = {"num_scored": len(chosen)} if chosen is not None else {}
    return {"split": split, **scored, **figures_of_views(counts, names), "listed": total, "rejected": rejected}


def decoded_split(
    manifest: Manifest, split: str, images: Folder, decoding: Decoding, world: World, on_progress: Progress
) -> Iterator[DecodedImages]:
    """This rank's images of a split; what comes next is decoded meanwhile."""

    def decode(index: int) -> list[DecodedImages]:
        return list(decoded_chunks(manifest.read_part(split, index), images, decoding))

    done, total = 0, manifest.splits[split].num_images
    mine = range(world.rank, manifest.splits[split].num_parts, world.size)
    for part in ahead(decode, mine, min(MAX_THREADS, torch.get_num_threads())):
        yield from part
        done = min(total, done + world.size * ROWS_PER_PART)
        on_progress("evaluate", done, total, "images")


def gathered(rejected: list[dict[str, Any]], world: World) -> list[dict[str, Any]]:
    """{key, reason} of what all ranks have rejected, in the order of the source."""
    rows = sorted((row for rows in world.gather(rejected) for row in rows), key=lambda row: row["id"])
    return [{name: row[name] for name in ("key", "reason")} for row in rows]


def check_any_read(rejected: list[dict[str, Any]], total: int, split: str, uri: str) -> None:
    """ValueError where none of a split's images can be read."""
    if len(rejected) == total:
        raise ValueError(
            f"none of {total} images in split {split!r} of {uri} can be read ({rejected[0]['reason']}); "
            "expected images; mend them"
        )


def count_images(
    counts: torch.Tensor,
    classifier: ImageClassifier,
    part: DecodedImages,
    numbers: np.ndarray,
    batch_size: int,
    chosen: list[int] | None = None,
) -> None:
    """Classify some images and add to the counts [V,C,4], in place; `numbers` [S] are the run's of a label.

    The first view is the image, a second one image and mirror image.
    """
    labels = torch.from_numpy(numbers[part.rows["label"].to_numpy()]).to(counts.device)
    for start in range(0, len(labels), batch_size):
        images, wanted = torch.from_numpy(part.pixels[start : start + batch_size]), labels[start : start + batch_size]
        logits = classifier.logits(images)
        add_counts(counts[0], scored_logits(logits, chosen), wanted)
        for both in counts[1:]:
            mean = mean_of(logits, classifier.logits(images.flip(-1)))
            add_counts(both, scored_logits(mean, chosen), wanted)


def scored_classes(
    classes: str, manifest: Manifest, split: str, numbers: np.ndarray, num_classes: int
) -> list[int] | None:
    """The classes whose logits count: those that a split has, for `classes` "present"; None for all of them."""
    if classes == "all":
        return None
    chosen = present_classes(manifest, split, numbers)
    return chosen if len(chosen) < num_classes else None


def scored_logits(logits: torch.Tensor, chosen: list[int] | None) -> torch.Tensor:
    """Logits [B,C], -inf for what is not among the chosen classes."""
    if chosen is None:
        return logits
    found = torch.full_like(logits, -torch.inf)
    found[:, chosen] = logits[:, chosen]
    return found


def check_alike(manifest: Manifest, world: World, uri: str) -> None:
    """ValueError unless all ranks have listed the same images."""
    if len(set(world.gather(manifest.digest))) > 1:
        raise ValueError(f"{uri} changed while workers listed it; expected the same images; wait and run again")
