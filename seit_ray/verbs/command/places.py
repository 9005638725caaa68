"""From configs to folders, and the rows of checks that verbs share. A check starts no ray and imports no torch."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from seit_ray.config import Cluster, Source, Storage, Workers
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

if TYPE_CHECKING:
    from seit_ray.images.manifest import Manifest
    from seit_ray.images.piece_makers import Made, Make, OnListed
    from seit_ray.images.pieces import Pieces

Rows = list[tuple[str, str]]

LOOK_S, LOOK_IMAGES = 1.5, 100_000  # a check lists a source for so long, or so far


def folder_of(uri: str, storage: Storage) -> Folder:
    """A folder with the config's endpoint and credentials."""
    return Folder(uri, **storage.options())


def tokenizer_folder(config: Any) -> Folder | None:
    """Where a verb's key `tokenizer` points, if it is given."""
    return folder_of(config.tokenizer, config.storage) if config.tokenizer else None


@contextlib.contextmanager
def listed(
    images: Folder,
    source: Source,
    *,
    val_fraction: float,
    seed: int,
    cluster: Cluster | None = None,
    on_progress: Progress = silent,
    is_enough: Callable[[int], bool] | None = None,
) -> Iterator[Manifest]:
    """A manifest of the images in a temporary folder; its pieces stay where source.listing says.

    cluster: lists what is long, where it is named and all nodes see the pieces.
    """
    from seit_ray.images.listing import list_images

    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        yield list_images(
            images,
            source.settings(),
            Folder(name),
            val_fraction=val_fraction,
            seed=seed,
            is_enough=is_enough,
            make=None if cluster is None or source.listing is None else make_on(cluster),
            on_progress=on_progress,
        )


def make_on(cluster: Cluster) -> Make:
    """Pieces of a listing made by a cluster that is named; by this process where none is, or where they are few."""
    from seit_ray.distributed.resources import named_address
    from seit_ray.images.piece_makers import FEW_PIECES, make_here

    def make(pieces: Pieces, todo: Sequence[int], on_listed: OnListed) -> Made:
        if len(todo) <= FEW_PIECES or named_address(cluster.address) == "local":
            yield from make_here(pieces, todo, on_listed)
            return
        from seit_ray.distributed.cluster import connected
        from seit_ray.distributed.data.list_job import make_on_tasks

        yield from make_on_tasks(partial(connected, **cluster.model_dump()))(pieces, todo, on_listed)

    return make


class Look:
    """Enough of a listing for a check: LOOK_S seconds of it, or LOOK_IMAGES images."""

    def __init__(self) -> None:
        self.until, self.is_whole = time.monotonic() + LOOK_S, True

    def __call__(self, number: int) -> bool:
        self.is_whole = number < LOOK_IMAGES and time.monotonic() < self.until
        return not self.is_whole


@contextlib.contextmanager
def looked_at(
    images: Folder, source: Source, *, val_fraction: float = 0.0, seed: int = 0
) -> Iterator[tuple[Manifest, bool]]:
    """(manifest of the first images, whether these are all)."""
    look = Look()
    with listed(images, source, val_fraction=val_fraction, seed=seed, is_enough=look) as manifest:
        yield manifest, look.is_whole


def source_rows(images: Folder, source: Source, *, val_fraction: float, seed: int) -> Rows:
    """Counts and classes of the images that would be read."""
    with looked_at(images, source, val_fraction=val_fraction, seed=seed) as (manifest, is_whole):
        return manifest_rows(images, manifest, is_whole)


def manifest_rows(images: Folder, manifest: Manifest, is_whole: bool) -> Rows:
    """Counts and classes of listed images."""
    splits = ", ".join(f"{name} {s.num_images}" for name, s in manifest.splits.items())
    total = sum(s.num_images for s in manifest.splits.values())
    names = manifest.class_names
    first = ", ".join(itertools.islice(names or [], 4))
    classes = f"{len(names)} ({first}{', ...' if len(names) > 4 else ''})" if names else "none"
    more = "" if is_whole else f", and more: only the first {total} were looked at"
    rows = [("images", images.uri), ("found", splits + more), ("classes", classes)]
    if (maps := manifest.map_labels) is not None:
        rows.append(("label maps", f"a class a pixel, by values {maps.value(0)} to {maps.last}; void {maps.void}"))
    return [*rows, *left_out_rows(manifest.left_out, manifest.notes)]


def left_out_rows(left_out: Mapping[str, int], notes: Sequence[str]) -> Rows:
    """What was seen in a source and is not listed, and what a person should look at; none where there is nothing."""
    from seit_ray.images.listing import left_out_words

    rows = [("left out", left_out_words(left_out))] if left_out else []
    return [*rows, *(("note", note) for note in notes)]


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
    """The Ray cluster that is named, or what a local one would have, and what the workers want of it."""
    from seit_ray.distributed.resources import check_room, shortage

    if workers is not None and workers.num_workers == 0:
        return [("ray", "not used: one process")]
    found = resources_of(cluster)
    rows = [("ray", found.words())]
    if workers is not None:
        settings = workers.settings()
        check_room(found, settings)
        short = shortage(found, settings)
        each = f"{workers.cpus_per_worker} CPUs, {found.gpus_each(workers.gpus_per_worker):g} GPUs each"
        waits = f"; {short} that the cluster has now: the job would wait until it has grown" if short else ""
        rows.append(("workers", f"{workers.num_workers}, {each}{waits}"))
    return rows


def resources_of(cluster: Cluster) -> Any:
    """What the named cluster has now, or a local one would have."""
    from seit_ray.distributed.resources import local_resources, named_address

    if named_address(cluster.address) == "local":
        return local_resources(cluster.num_cpus)
    from seit_ray.distributed.cluster import connected

    with connected(**cluster.model_dump()) as found:
        return found
