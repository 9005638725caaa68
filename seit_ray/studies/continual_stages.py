"""What trials of continual learning need: the listing of the images, and tokenizers of the first classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from seit_ray.batches.class_steps import class_order, class_steps
from seit_ray.progress import silent
from seit_ray.runs.continual_inputs import open_streams, unreadable
from seit_ray.runs.continual_settings import LabelledImages
from seit_ray.storage import Folder
from seit_ray.storage.errors import may_pass
from seit_ray.studies.arms import CentroidSettings
from seit_ray.tokenizers.centroid_fit import fit_centroids
from seit_ray.tokenizers.files import save_tokenizer
from seit_ray.training.world import World

UNREADABLE = "unreadable_images"  # that have another in their place


def list_images_once(*, run: Folder, images: LabelledImages, world: World, **hooks: Any) -> dict[str, Any]:
    """The listing, in `run`, and how many there are. One whose images the user has to mend is not kept."""
    assert run == images.listing
    try:
        _, labels, names = open_streams(images, world, on_progress=hooks.get("on_progress", silent))
    except ValueError as error:
        if not may_pass(error):
            run.delete_tree()
        raise
    return {
        "train_images": len(labels["train"]),
        "test_images": len(labels["val"]),
        "classes": len(names),
        UNREADABLE: sum(unreadable(images).values()),
    }


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
    """Centroids of the train images of the first step's classes, saved in `run`; its PSNR.

    Of the classes that come later, the tokenizer has seen nothing.
    """
    del hooks  # k-means of a few images is over before there is something to tell
    streams, labels, names = open_streams(images, world)
    first = class_order(len(names), order_seed)[: class_steps(len(names), num_steps)[0].stop]
    rows = np.flatnonzero(np.isin(labels["train"], first))
    generator = np.random.Generator(np.random.Philox(key=order_seed))
    some = generator.permutation(rows)[: centroid.sample_images]  # in that order: the last ones are held out
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
