"""What trials of continual learning share: the listing of the images, and tokenizers of the first classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from seit_ray.batches.class_steps import class_order, class_steps
from seit_ray.progress import Progress, silent
from seit_ray.runs.continual_settings import CentroidSettings, LabelledImages
from seit_ray.runs.continual_views import Streams
from seit_ray.runs.inputs import image_streams
from seit_ray.shards.dataset import check_classes
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid_fit import fit_centroids
from seit_ray.tokenizers.files import save_tokenizer
from seit_ray.training.world import World


def open_streams(
    images: LabelledImages, world: World, memory_gib: float | None = None, on_progress: Progress = silent
) -> tuple[Streams, dict[str, np.ndarray], list[str]]:
    """Streams of train and val, their labels, and class names; ValueError where a class has no images in one."""
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
    return streams, labels, names or []


def check_labels(labels: dict[str, np.ndarray], names: list[str], uri: str) -> None:
    """ValueError unless there is a val split, and every class has images in both."""
    if "val" not in labels:
        raise ValueError(f"{uri} has no val split; expected one to measure on; set val_fraction, or name a folder val")
    for split in ("train", "val"):
        unlabelled = int((labels[split] < 0).sum())
        if unlabelled:
            raise ValueError(
                f"{uri} has {unlabelled} images without a label in {split}; expected a label for each; sort them into "
                "a folder per class"
            )
        empty = np.flatnonzero(np.bincount(labels[split], minlength=len(names)) == 0)
        if len(empty):
            raise ValueError(
                f"class {names[empty[0]]} of {uri} has no image in {split}; expected some; leave the class out by "
                "source.exclude, or raise max_images"
            )


def list_images_once(*, run: Folder, images: LabelledImages, world: World, **hooks: Any) -> dict[str, Any]:
    """A stage of its own: the listing, in `run`, and how many there are."""
    assert run == images.listing
    _, labels, names = open_streams(images, world, on_progress=hooks.get("on_progress", silent))
    return {"train_images": len(labels["train"]), "test_images": len(labels["val"]), "classes": len(names)}


def fit_first_classes(
    *,
    run: Folder,
    images: LabelledImages,
    centroid: CentroidSettings,
    num_steps: int,
    order_seed: int,
    world: World,
    **hooks: Any,
) -> dict[str, Any]:
    """A stage of its own: centroids of the train images of the first step's classes, saved in `run`; its PSNR.

    Of the classes that come later, the tokenizer has seen nothing. What stands already is not fitted again.
    """
    del hooks  # k-means of a few images is over before there is something to tell
    streams, labels, names = open_streams(images, world)
    first = class_order(len(names), order_seed)[: class_steps(len(names), num_steps)[0].stop]
    rows = np.flatnonzero(np.isin(labels["train"], first))
    generator = np.random.Generator(np.random.Philox(key=order_seed))
    some = np.sort(generator.permutation(rows)[: centroid.sample_images])
    tokenizer, report = fit_centroids(
        streams["train"].host_batch(some).inputs,
        patch_size=centroid.patch_size,
        codebook_size=centroid.codebook_size,
        resize=centroid.resize,
        iterations=centroid.iterations,
        sample_patches=centroid.sample_patches,
        seed=order_seed,
    )
    if world.is_main:
        save_tokenizer(tokenizer, run, report)
    return {"images": len(some), "psnr_db": report["psnr_db"]}
