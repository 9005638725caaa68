"""What a training or a fit asks of its images, as far as a look finds them all: told in the dry run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from seit_ray.config import Centroid, Loop, Source, StudyTokenizer
from seit_ray.runs.best_checks import check_kept
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import Rows, looked_at, manifest_rows
from seit_ray.verbs.command.shape_checks import mistakes_of

if TYPE_CHECKING:
    from seit_ray.images.manifest import Manifest


def training_rows(
    images: Folder,
    source: Source,
    loop: Loop,
    *,
    val_fraction: float,
    seed: int,
    max_images: int | None,
    need_labels: bool = False,
    check_number: Callable[[int], None] = lambda num_images: None,
) -> Rows:
    """Counts and classes of the images that a training would read; ValueError where they are not what it needs.

    check_number: what it asks of their number in train.
    """
    from seit_ray.batches.sampler import num_steps

    with looked_at(images, source, val_fraction=val_fraction, seed=seed) as (manifest, is_whole):
        if is_whole:
            num_images = num_train(manifest, max_images, images.uri)
            with mistakes_of(images.uri):
                num_steps(num_images, loop.global_batch_size, loop.epochs)
            check_number(num_images)
            if need_labels:
                check_labels(manifest, images.uri)
            has_val = "val" in manifest.splits and bool(manifest.splits["val"].num_images)
            has_labels = len(manifest.class_names or []) > 1
            check_kept(loop.keep_best, has_val=has_val, has_labels=has_labels, where=images.uri)
        return manifest_rows(images, manifest, is_whole)


def num_train(manifest: Manifest, max_images: int | None, uri: str) -> int:
    """How many images are trained on; ValueError where there are none."""
    from seit_ray.images.manifest import check_train

    check_train(manifest, uri)
    num_images = manifest.splits["train"].num_images
    return min(num_images, max_images or num_images)


def check_labels(manifest: Manifest, uri: str) -> None:
    """ValueError for images without a label, or of fewer than two classes."""
    from seit_ray.images.labels import check_all_labelled
    from seit_ray.shards.dataset import check_classes

    for split in manifest.splits:
        check_all_labelled(manifest, split, uri)
    check_classes(manifest.class_names, uri)


def fit_rows(images: Folder, source: Source, centroid: Centroid, *, val_fraction: float, seed: int) -> Rows:
    """Counts and classes of the images that centroids are fitted on; ValueError where they are too few."""
    with looked_at(images, source, val_fraction=val_fraction, seed=seed) as (manifest, is_whole):
        if is_whole:
            check_fit(centroid, num_train(manifest, None, images.uri), centroid.image_size)
        return manifest_rows(images, manifest, is_whole)


def check_fit(centroid: Centroid | StudyTokenizer, num_images: int, image_size: int) -> None:
    """ValueError where so many train images of this side have fewer patches than there are centroids to fit."""
    from seit_ray.tokenizers.fit_numbers import check_patches, fitted_images

    fitted = fitted_images(min(num_images, centroid.sample_images))
    patches = fitted * (image_size // centroid.patch_size) ** 2
    check_patches(min(patches, centroid.sample_patches), centroid.codebook_size)
