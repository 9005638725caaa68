"""The images of continual learning: as streams of pixels, with a label for each and images of each class."""

from __future__ import annotations

import json

import numpy as np

from seit_ray.images.labels import refuse_unlabelled
from seit_ray.progress import Progress, silent
from seit_ray.runs.continual_settings import LabelledImages, check_classes_of
from seit_ray.runs.continual_views import Streams
from seit_ray.runs.inputs import image_streams
from seit_ray.shards.dataset import check_classes
from seit_ray.training.world import World

LABELS = "labels.json"  # beside the listing: which images have another in their place, and its label


def open_streams(
    images: LabelledImages, world: World, memory_gib: float | None = None, on_progress: Progress = silent
) -> tuple[Streams, dict[str, np.ndarray], list[str]]:
    """Streams of train and val, their labels, and class names; ValueError where a class has no images in one.

    Labels are those of what is seen: an image that cannot be read has another in its place, with its label.
    """
    streams = image_streams(
        images.images,
        images.listing,
        source=images.source,
        image_size=images.image_size,
        resize=images.resize,
        val_fraction=images.val_fraction,
        seed=images.seed,
        max_images=images.max_images,
        world=world,
        memory_gib=memory_gib,
        on_progress=on_progress,
    )
    names = streams["train"].class_names
    check_classes(names, images.images.uri)
    labels = {split: stream.labels for split, stream in streams.items()}
    check_labels(labels, names or [], images.images.uri)
    labels = labels_seen(images, streams, labels, world)
    check_labels(labels, names or [], images.images.uri)
    return streams, labels, names or []


def labels_seen(
    images: LabelledImages, streams: Streams, labels: dict[str, np.ndarray], world: World
) -> dict[str, np.ndarray]:
    """The labels, of each image that cannot be read that of its stand-in. All are read for it once a listing."""
    digest = streams["train"].images.manifest.digest
    of = [digest, images.max_images, images.seed]
    known = json.loads(images.listing.read(LABELS)) if images.listing.exists(LABELS) else {}
    if known.get("of") != of:
        seen = {split: stream.labels_as_read() for split, stream in streams.items()}
        moved = {split: np.flatnonzero(seen[split] != labels[split]).tolist() for split in labels}
        others = {split: {str(row): int(seen[split][row]) for row in rows} for split, rows in moved.items()}
        lost = {split: sum(stream.shards.unreadable.values()) for split, stream in streams.items()}
        known = {"of": of, "others": others, "unreadable": lost}
        if world.is_main:
            images.listing.write(LABELS, json.dumps(known).encode())
    found = {split: values.copy() for split, values in labels.items()}
    for split, others in known["others"].items():
        for row, label in others.items():
            found[split][int(row)] = label
    return found


def unreadable(images: LabelledImages) -> dict[str, int]:
    """How many images of each split cannot be read, and have another in their place; of a listing that was opened."""
    return json.loads(images.listing.read(LABELS)).get("unreadable", {})


def check_labels(labels: dict[str, np.ndarray], names: list[str], uri: str) -> None:
    """ValueError unless there is a val split, and every class has images in both."""
    for split, found in labels.items():
        refuse_unlabelled(int((found < 0).sum()), split, uri)
    check_classes_of({split: np.bincount(found, minlength=len(names)) for split, found in labels.items()}, names, uri)
