"""What the name of a file says."""

from __future__ import annotations

import posixpath

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})


def suffix_of(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def stem_of(name: str) -> str:
    """'train' of 'data/train-00000-of-00012.parquet'."""
    return posixpath.splitext(posixpath.basename(name))[0].partition("-")[0]
