"""From configs to folders, and the rows of a dry run that several verbs share."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from typing import Any

from seit_ray.config import Cluster, Source, Storage, Workers
from seit_ray.storage import Folder

Rows = list[tuple[str, str]]


def folder_of(uri: str, storage: Storage) -> Folder:
    """A folder with the config's endpoint and credentials."""
    return Folder(uri, **storage.options())


def tokenizer_folder(config: Any) -> Folder | None:
    """Where a verb's key `tokenizer` points, if it is given."""
    return folder_of(config.tokenizer, config.storage) if config.tokenizer else None


@contextlib.contextmanager
def listed(images: Folder, source: Source, *, val_fraction: float, seed: int, on_progress: Any) -> Iterator[Any]:
    """A manifest of the images in a temporary folder."""
    from seit_ray.images.listing import list_images

    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        yield list_images(
            images,
            source.model_dump(),
            Folder(name),
            val_fraction=val_fraction,
            seed=seed,
            on_progress=on_progress,
        )


def source_rows(images: Folder, source: Source, *, val_fraction: float, seed: int) -> Rows:
    """Counts of the images that would be read."""
    with listed(images, source, val_fraction=val_fraction, seed=seed, on_progress=lambda *_: None) as manifest:
        return manifest_rows(images, manifest)


def manifest_rows(images: Folder, manifest: Any) -> Rows:
    """Counts and classes of listed images."""
    splits = ", ".join(f"{name} {s.num_images}" for name, s in manifest.splits.items())
    names = manifest.class_names
    first = ", ".join(itertools.islice(names or [], 4))
    classes = f"{len(names)} ({first}{', ...' if len(names) > 4 else ''})" if names else "none"
    return [("images", images.uri), ("found", splits), ("classes", classes)]


def dataset_rows(dataset: Folder) -> Rows:
    """What a token dataset holds, from its marker."""
    from seit_ray.shards import TokenDataset

    info = TokenDataset(dataset).info
    splits = ", ".join(f"{name} {s.rows}" for name, s in info.splits.items())
    return [
        ("token dataset", dataset.uri),
        ("rows", splits),
        ("tokens", f"grid {info.grid[0]}x{info.grid[1]}, K {info.codebook_size}, tokenizer {info.tokenizer}"),
        ("classes", str(len(info.class_names or []))),
    ]


def output_rows(output: Folder) -> Rows:
    """The output, after a test write."""
    output.check_writable()
    return [("output", f"{output.uri} (writable)")]


def cluster_rows(cluster: Cluster, workers: Workers | None = None) -> Rows:
    """The Ray cluster at hand, and what the workers want of it."""
    if workers is not None and workers.num_workers == 0:
        return [("ray", "not used: one process")]
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.train_job import check_resources

    with connected(**cluster.model_dump()) as found:
        where = "local" if found.is_local else found.address
        rows = [("ray", f"{where}: {found.num_cpus:g} CPUs, {found.num_gpus:g} GPUs")]
        if workers is not None:
            gpus = found.gpus_each(workers.gpus_per_worker)
            check_resources(found, workers.num_workers, gpus, workers.cpus_per_worker)
            each = f"{workers.cpus_per_worker} CPUs, {gpus:g} GPUs each"
            rows.append(("workers", f"{workers.num_workers}, {each}"))
    return rows
