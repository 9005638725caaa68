"""From a source to a manifest, with progress: the first step of every verb that reads images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from seit_ray.images.manifest import Manifest, write_manifest
from seit_ray.images.records import ImageRecord
from seit_ray.images.sources.find import find_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder


def list_images(
    source: Folder,
    settings: SourceSettings,
    folder: Folder,
    *,
    val_fraction: float,
    seed: int,
    slice_size: int = 256,
    select: Callable[[ImageRecord], bool] | None = None,
    known_classes: Sequence[str] | None = None,
    is_enough: Callable[[int], bool] = lambda number: False,
    on_progress: Progress = silent,
) -> Manifest:
    """Find the images of a source and write their manifest into a folder; ValueError when there are none.

    select: which images of those found are written; there may be none then. known_classes: see `write_manifest`.
    is_enough: (images found) -> whether to stop there.
    """
    source.check_readable()
    found = find_images(source, settings)

    def counted() -> Iterator[ImageRecord]:
        number = 0
        for number, record in enumerate(found, 1):
            if number % 1000 == 0:
                on_progress("list", number, 0, "images")
            if select is None or select(record):
                yield record
            if is_enough(number):
                break
        on_progress("list", number, number, "images")

    manifest = write_manifest(
        counted(),
        folder,
        val_fraction=val_fraction,
        seed=seed,
        class_names=found.class_names,
        known_classes=known_classes,
        slice_size=slice_size,
    )
    if select is None and not any(split.num_images for split in manifest.splits.values()):
        raise ValueError(
            f"no images in {source.uri}; expected jpg, png, webp, ... files, a table of them, or Parquet with image "
            "bytes; check the path and source.kind"
        )
    return manifest
