"""Manifests for tests, of small parts."""

import hashlib

from seit_ray.images.known import known_file, known_name
from tests.images.found import ImageRecord, write_manifest


def records(count, *, labels=("dog", "cat", None), split=None, size_bytes=10):
    return [ImageRecord(f"k{i:04}", f"/data/k{i:04}", labels[i % len(labels)], split, size_bytes) for i in range(count)]


def write(folder, rows, *, val_fraction=0.0, seed=0, rows_per_part=4, **options):
    return write_manifest(
        rows,
        folder,
        val_fraction=val_fraction,
        seed=seed,
        rows_per_part=rows_per_part,
        **options,
    )


def rows_of(manifest, split):
    return [
        row for index in range(manifest.splits[split].num_parts) for row in manifest.read_part(split, index).to_pylist()
    ]


def labels_of(manifest, split="train"):
    return [row["label"] for row in rows_of(manifest, split)]


def files(folder):
    return {entry.name: folder.read(entry.name) for entry in folder.list(include_hidden=True)}


def keep_known(manifest, folder, first=0):
    """Writes what a job keeps of its images, from file number `first` on; name -> SHA-256."""
    checksums = {}
    for split, listing in manifest.splits.items():
        for index in range(listing.num_parts):
            name, data = known_name(split, first + index), known_file(manifest.read_part(split, index))
            folder.write(name, data)
            checksums[name] = hashlib.sha256(data).hexdigest()
    return checksums
