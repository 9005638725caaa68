"""Which files a finished token dataset has, and how large they are. Imports no torch: a dry run asks here too."""

from __future__ import annotations

from collections.abc import Collection

from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.shards.synonyms import SYNONYMS
from seit_ray.storage import Folder
from seit_ray.storage.output import end_work, remove_unknown


def sizes_of(folder: Folder, *prefixes: str) -> dict[str, int]:
    """Bytes of all objects whose names begin so; also those that a listing hides, for keys of images name files."""
    return {entry.name: entry.size_bytes for prefix in prefixes for entry in folder.list(prefix, include_hidden=True)}


def clean_up(folder: Folder, info: DatasetInfo, parts: Collection[str]) -> None:
    """Remove what is no part of a finished dataset: its work and that one's `parts`, and what killed writers left."""
    remove_unknown(folder, names_of(info))
    end_work(folder, parts)


def names_of(info: DatasetInfo) -> set[str]:
    """The files of a finished dataset."""
    known = {MARKER, SYNONYMS, *(f"tokenizer/{name}" for name in ("tokenizer.json", "tokenizer.safetensors"))}
    known |= set(info.source)
    for name, split in info.splits.items():
        known |= {f"{name}/{file}" for file in split.file_names}
    return known
