"""What a split must have to be trained on, by the marker alone. Imports no torch, so that a dry run can ask."""

from __future__ import annotations

from seit_ray.shards.dataset import TokenDataset

__all__ = ["check_labels", "check_rows"]


def check_rows(dataset: TokenDataset, split: str) -> int:
    """Rows of a split; ValueError when there are none."""
    num = dataset.split(split).rows
    if not num:
        raise ValueError(f"split {split!r} of {dataset.folder.uri} is empty; expected at least one image")
    return num


def check_labels(dataset: TokenDataset, split: str) -> None:
    """ValueError when labels are missing."""
    num = dataset.split(split).rows
    missing = num - sum(dataset.split(split).label_counts)
    if missing:
        raise ValueError(
            f"split {split!r} of {dataset.folder.uri} has {missing} of {num} images without a "
            "label; expected a label for each; tokenise from a folder per class or a table with labels"
        )
