"""From a source to a manifest, with progress: the first step of every verb that reads images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from seit_ray.images.depth import LOOK, depth_notes, may_be_deep
from seit_ray.images.manifest import Manifest, write_manifest
from seit_ray.images.records import ImageRecord
from seit_ray.images.sources.find import find_images
from seit_ray.images.sources.maps import checked_pairs
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

SHOWN = 8  # kinds of what was left out


def list_images(
    source: Folder,
    settings: SourceSettings,
    folder: Folder,
    *,
    val_fraction: float,
    seed: int,
    rows_per_part: int | None = None,
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
    is_whole = settings.limit is None and select is None  # some images may be of some classes

    def counted() -> Iterator[ImageRecord]:
        nonlocal is_whole
        deep: list[ImageRecord] = []
        records = found.records if found.labels is None else checked_pairs(found.records, source, found.labels)
        number = 0
        for number, record in enumerate(records, 1):
            if number % 1000 == 0:
                on_progress("list", number, 0, "images")
            if select is None or select(record):
                if len(deep) < LOOK and may_be_deep(record):
                    deep.append(record)
                yield record
            if is_enough(number):
                is_whole = False
                break
        found.notes.extend(depth_notes(deep, source, settings))
        on_progress("list", number, number, "images")

    manifest = write_manifest(
        counted(),
        folder,
        val_fraction=val_fraction,
        seed=seed,
        class_names=found.class_names,
        known_classes=known_classes,
        rows_per_part=rows_per_part,
        left_out=found.left_out,
        notes=found.notes,
        white_level=settings.white_level,
        map_labels=found.labels,
        is_whole=lambda: is_whole,
    )
    for number, note in enumerate(manifest.notes, 1):
        on_progress(f"note {number}", 1, 1, note)  # a line each: a phase shows its last note
    if select is None and not any(split.num_images for split in manifest.splits.values()):
        left_out = f" (left out: {left_out_words(manifest.left_out)})" if manifest.left_out else ""
        raise ValueError(
            f"no images in {source.uri}{left_out}; expected jpg, png, webp, ... files, a table of them, or Parquet "
            "with image bytes; check the path, source.kind, source.include and source.exclude"
        )
    return manifest


def left_out_words(left_out: Mapping[str, int]) -> str:
    """'2 .txt, 1 .heic' of what was seen and not listed, the most first."""
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    more = f", and {len(ordered) - SHOWN} more kinds" if len(ordered) > SHOWN else ""
    return ", ".join(f"{count} {kind}" for kind, count in ordered[:SHOWN]) + more
