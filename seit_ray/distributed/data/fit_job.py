"""Fit a centroid tokenizer on Ray actors: each decodes and keeps a part of the images; only sums of k-means travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.exceptions import ActorDiedError, RayError

from seit_ray.distributed.cluster import user_error
from seit_ray.distributed.resources import Resources
from seit_ray.images.sample import NoReadableImageError, read_pixels
from seit_ray.progress import Progress
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.centroid_fit import ImagesPart, fit_centroids_parts
from seit_ray.tokenizers.points_part import EachPart

ATTEMPTS = 3  # of the whole fit, which takes seconds to minutes, when an actor or its node is lost


class FitWorker:
    """One actor: decodes its rows of the manifest, then answers as an `ImagesPart`."""

    def read(
        self, rows: pa.Table, source: Folder, patch_size: int, image_size: int, resize: str, image_column: str
    ) -> int:
        """Decode; returns how many of the images can be read."""
        try:
            pixels, _ = read_pixels(
                rows, source, image_size=image_size, resize=resize, image_column=image_column, num_threads=1
            )
        except NoReadableImageError:  # the other parts may have some
            pixels = np.empty((0, 3, image_size, image_size), np.uint8)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.part = ImagesPart(torch.from_numpy(pixels), patch_size, device)
        return len(pixels)

    def call(self, name: str, *arguments: Any) -> Any:
        """A method of the part."""
        return getattr(self.part, name)(*arguments)


def fit_on_actors(
    rows: pa.Table,
    source: Folder,
    *,
    cluster: Resources,
    num_workers: int,
    patch_size: int,
    image_size: int,
    resize: str,
    image_column: str,
    on_progress: Progress,
    **fitting: Any,
) -> tuple[CentroidTokenizer, dict[str, Any]]:
    """Fit on the images (key, uri) of `rows`, each of `num_workers` actors with an equal share of them.

    fitting: the other keywords of `fit_centroids_parts`, whose result this is, bit for bit the same for any number of
    actors. Each takes one CPU, or a GPU where the cluster has so many. ValueError for what the user can mend; a lost
    actor starts the fit over.
    """
    if num_workers > max(cluster.num_cpus, 1) and cluster.is_local:
        raise ValueError(
            f"centroid.num_workers {num_workers} on {cluster.num_cpus:g} CPUs; expected at most as many; lower it"
        )
    gpus = 1 if cluster.num_gpus >= num_workers else 0
    for attempt in range(ATTEMPTS):
        actors: list[Any] = [ray.remote(num_cpus=1, num_gpus=gpus)(FitWorker).remote() for _ in range(num_workers)]
        try:
            each, num_images = _read(actors, rows, source, (patch_size, image_size, resize, image_column), on_progress)
            return fit_centroids_parts(
                each,
                num_images,
                image_size=image_size,
                patch_size=patch_size,
                resize=resize,
                on_progress=on_progress,
                **fitting,
            )
        except ActorDiedError:
            if attempt + 1 == ATTEMPTS:
                raise
            on_progress("decode", 0, 0, "an actor was lost, the fit starts over")
        except RayError as error:
            raise user_error(error) or error from error
        finally:
            for actor in actors:
                ray.kill(actor)
    raise AssertionError("each attempt returns or raises")


def _read(
    actors: list[Any],
    rows: pa.Table,
    source: Folder,
    decoding: tuple[int, int, str, str],
    on_progress: Progress,
) -> tuple[EachPart, list[int]]:
    """Have each actor decode its part (`FitWorker.read`); what calls all of them, and how many images each has."""
    ends = [len(rows) * (i + 1) // len(actors) for i in range(len(actors))]
    parts = [rows.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    reading = [actor.read.remote(part, source, *decoding) for actor, part in zip(actors, parts, strict=True)]
    waiting, done = list(reading), 0
    while waiting:
        on_progress("decode", done, len(actors), "actors")
        ready, waiting = ray.wait(waiting)
        done += len(ready)
    num_images = ray.get(reading)
    if not sum(num_images):
        raise NoReadableImageError(
            f"none of {len(rows)} images in {source.uri} can be read; expected images; check the source"
        )

    def each(name: str, *arguments: Any) -> list[Any]:
        # what all parts get is put into the object store once
        shared = [a if isinstance(a, list) else ray.put(a) for a in arguments]
        calls = [
            actor.call.remote(name, *(a[i] if isinstance(a, list) else a for a in shared))
            for i, actor in enumerate(actors)
        ]
        return ray.get(calls)

    return each, num_images
