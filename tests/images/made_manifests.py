"""Manifests for tests, with small slices and parts."""

from seit_ray.images import ImageRecord, write_manifest


def records(count, *, labels=("dog", "cat", None), split=None, size_bytes=10):
    return [ImageRecord(f"k{i:04}", f"/data/k{i:04}", labels[i % len(labels)], split, size_bytes) for i in range(count)]


def write(folder, rows, *, val_fraction=0.0, seed=0, slice_size=4, part_slices=3, **options):
    return write_manifest(
        rows,
        folder,
        val_fraction=val_fraction,
        seed=seed,
        slice_size=slice_size,
        part_slices=part_slices,
        **options,
    )


def rows_of(manifest, split):
    return [
        row
        for index in range(manifest.splits[split].num_slices)
        for row in manifest.read_slice(split, index).to_pylist()
    ]


def labels_of(manifest, split="train"):
    return [row["label"] for row in rows_of(manifest, split)]


def files(folder):
    return {entry.name: folder.read(entry.name) for entry in folder.list(include_hidden=True)}
