"""Label maps of new images as files: one PNG each, of the image's own size, and a table of which is whose.

key, uri        of the image
width, height   of the image and of its map
map             the map's name in the output; its values are those of the maps that the run was trained with
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from seit_ray.evaluation.predictions import REJECTED

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "key": pa.string(),
        "uri": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "map": pa.string(),
    }
)
FOLDER = "maps"
LONGEST = 200  # bytes of a part of a name: disks take 255


def map_name(split: str, key: str) -> str:
    """Where the map of an image lies in the output: by its key where that is a plain path, else by a digest of it."""
    parts = key.split("/")
    is_plain = all(part.strip(". ") and len(part.encode()) <= LONGEST and part.isprintable() for part in parts)
    if not is_plain or any(sign in key for sign in '\\:*?"<>|'):
        return f"{split}/{FOLDER}/{hashlib.sha256(key.encode()).hexdigest()}.png"
    return f"{split}/{FOLDER}/{key}.png"


def map_tables(split: str, rows: pa.Table, rejected: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(rows of images with a map, in SCHEMA; those that were rejected, in REJECTED), of a `DecodedImages`'."""
    columns = {name: rows[name] for name in ("id", "key", "uri", "width", "height")}
    columns["map"] = pa.array([map_name(split, key) for key in rows["key"].to_pylist()], pa.string())
    bad = {name: rejected[name] for name in ("id", "key", "uri", "reason")}
    bad["source_label"] = pa.nulls(len(rejected), pa.string())
    return (
        pa.table({name: columns[name] for name in SCHEMA.names}, SCHEMA),
        pa.table({name: bad[name] for name in REJECTED.names}, REJECTED),
    )


def map_counts(num_images: int, pixels: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """predicted images, and `labels`: name -> pixels int64 [C] of the classes that occur."""
    labels = {name: int(number) for name, number in zip(class_names, pixels.tolist(), strict=True) if number}
    return {"predicted": num_images, "labels": dict(sorted(labels.items())), "labelled": 0, "agreeing": 0}
