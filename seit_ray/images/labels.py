"""The labels of a source beside the classes of a model."""

from __future__ import annotations

import numpy as np

from seit_ray.images.manifest import Manifest


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
    seen, unlabelled = set[int](), 0
    for labels in manifest.labels(split):
        unlabelled += labels.null_count
        seen.update(labels.drop_null().unique().to_pylist())
    if unlabelled:
        raise ValueError(
            f"split {split!r} of {source_uri} has {unlabelled} of {manifest.splits[split].num_images} images without a "
            "label; expected a label for each; name a folder per class or a table with labels, or use predict"
        )
    number_of = {name: number for number, name in enumerate(class_names)}
    names = manifest.class_names or []  # a source with labels has names for them
    unknown = [names[label] for label in sorted(seen) if names[label] not in number_of]
    if unknown:
        shown = ", ".join(map(repr, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        first = ", ".join(map(repr, class_names[:8])) + (", ..." if len(class_names) > 8 else "")
        raise ValueError(
            f"{source_uri} has {len(unknown)} classes that {run_uri} does not know: {shown}; expected names among its "
            f"{len(class_names)}: {first}; rename the classes, or set source.label_column"
        )
    return np.array([number_of.get(name, -1) for name in names], np.int64)


def refuse_unlabelled(unlabelled: int, split: str, uri: str) -> None:
    """ValueError where any of the images that are to be learnt from has no label."""
    if unlabelled:
        raise ValueError(
            f"{uri} has {unlabelled} images without a label in {split}; expected a label for each; sort them into "
            "a folder per class, or leave them out by source.exclude"
        )


def present_classes(manifest: Manifest, split: str, numbers: np.ndarray) -> list[int]:
    """Numbers, ascending, of the model's classes that images of a split have; `numbers` are `label_table`'s."""
    seen: set[int] = set()
    for labels in manifest.labels(split):
        seen.update(labels.drop_null().unique().to_pylist())
    return sorted({int(numbers[label]) for label in seen})


def class_counts(manifest: Manifest, split: str) -> np.ndarray:
    """Images of each class in a split, int64 [C]; those without a label are not counted."""
    counts = np.zeros(len(manifest.class_names or []), np.int64)
    for labels in manifest.labels(split):
        counts += np.bincount(labels.drop_null().to_numpy(), minlength=len(counts))
    return counts


def check_all_labelled(manifest: Manifest, split: str, uri: str) -> None:
    """ValueError for images without a label."""
    refuse_unlabelled(sum(part.null_count for part in manifest.labels(split)), split, uri)
