"""Figures of a finished classifier on images as they come: decode, tokenise and classify in one pass, on any ranks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from seit_ray.evaluation.classification import add_counts, figures_of_counts
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest
from seit_ray.images.slices import DecodedSlice, ahead, decode_slice
from seit_ray.storage import Folder
from seit_ray.training.world import World

__all__ = ["evaluate_images", "label_table"]

MAX_THREADS = 8  # that decode: each holds a slice of pixels


def evaluate_images(
    *,
    images: Folder,
    source: dict[str, Any],
    run: Folder,
    split: str,
    val_fraction: float,
    seed: int,
    tokenizer: Folder | None,
    weights: str,
    limits: dict[str, int],
    batch_size: int,
    world: World,
    on_progress: Callable[[int, int, str], None] = lambda done, total, note: None,
    **hooks: Callable,
) -> dict[str, Any]:
    """Figures of `training.runs.evaluate` on a split of a source, and listed = samples + the images in rejected.

    Labels are matched to the run's classes by name. ValueError for classes that the run does not know, for images
    without a label, and when none can be read.
    """
    del hooks  # one pass over a split: no metrics on the way
    classifier = ImageClassifier.load(run, tokenizer=tokenizer, weights=weights).to(world.device)
    names = classifier.class_names
    counts = torch.zeros(len(names), 4, dtype=torch.float64, device=world.device)
    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        manifest = list_images(images, source, Folder(name), val_fraction=val_fraction, seed=seed)
        check_alike(manifest, world, images.uri)
        numbers = label_table(manifest, split, names, images.uri, run.uri)
        total = manifest.splits[split].num_images
        size = {"image_size": classifier.image_size, "resize": classifier.resize}
        options = {**size, "mode": classifier.decode, **limits}

        def decode(index: int) -> DecodedSlice:
            return decode_slice(manifest, split, index, images, image_column=source["image_column"], **options)

        done, rejected = 0, []
        mine = range(world.rank, manifest.splits[split].num_slices, world.size)
        for part in ahead(decode, mine, min(MAX_THREADS, torch.get_num_threads())):
            count_slice(counts, classifier, part, numbers, batch_size)
            rejected += part.rejected.select(["id", "key", "reason"]).to_pylist()
            done = min(total, done + world.size * manifest.slice_size)
            on_progress(done, total, "images")
    counts = world.sum(counts)
    rejected = sorted((row for rows in world.gather(rejected) for row in rows), key=lambda row: row["id"])
    rejected = [{name: row[name] for name in ("key", "reason")} for row in rejected]
    if len(rejected) == total:
        raise ValueError(
            f"none of {total} images in split {split!r} of {images.uri} can be read ({rejected[0]['reason']}); "
            "expected images; mend them"
        )
    return {"split": split, **figures_of_counts(counts, names), "listed": total, "rejected": rejected}


def count_slice(
    counts: torch.Tensor, classifier: ImageClassifier, part: DecodedSlice, numbers: np.ndarray, batch_size: int
) -> None:
    """Classify the images of a slice and add to the counts [C,4], in place; `numbers` [S] are the run's of a label."""
    labels = torch.from_numpy(numbers[part.rows["label"].to_numpy()]).to(counts.device)
    for start in range(0, len(labels), batch_size):
        images = torch.from_numpy(part.pixels[start : start + batch_size])
        add_counts(counts, classifier.logits(images), labels[start : start + batch_size])


def check_alike(manifest: Manifest, world: World, uri: str) -> None:
    """ValueError unless all ranks have listed the same images."""
    if len(set(world.gather(manifest.digest))) > 1:
        raise ValueError(f"{uri} changed while workers listed it; expected the same images; wait and run again")


def label_table(manifest: Manifest, split: str, class_names: list[str], source_uri: str, run_uri: str) -> np.ndarray:
    """Number of each of the source's classes among `class_names` int64 [S], -1 for classes without images in the split.

    ValueError for another split, images without a label, and labels that `class_names` has not.
    """
    if split not in manifest.splits or not manifest.splits[split].num_images:
        found = sorted(name for name, s in manifest.splits.items() if s.num_images)
        raise ValueError(
            f"split {split!r} of {source_uri}; expected one of {found}; name another split, or hold one out with "
            "val_fraction"
        )
    seen, unlabelled = set(), 0
    for index in range(manifest.splits[split].num_slices):
        labels = manifest.read_slice(split, index)["label"]
        unlabelled += labels.null_count
        seen.update(labels.drop_null().to_pylist())
    if unlabelled:
        raise ValueError(
            f"split {split!r} of {source_uri} has {unlabelled} of {manifest.splits[split].num_images} images without a "
            "label; expected a label for each; name a folder per class or a table with labels, or use predict"
        )
    number_of = {name: number for number, name in enumerate(class_names)}
    unknown = [manifest.class_names[label] for label in sorted(seen) if manifest.class_names[label] not in number_of]
    if unknown:
        shown = ", ".join(map(repr, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        first = ", ".join(map(repr, class_names[:8])) + (", ..." if len(class_names) > 8 else "")
        raise ValueError(
            f"{source_uri} has {len(unknown)} classes that {run_uri} does not know: {shown}; expected names among its "
            f"{len(class_names)}: {first}; rename the classes, or set source.label_column"
        )
    return np.array([number_of.get(name, -1) for name in manifest.class_names], np.int64)
