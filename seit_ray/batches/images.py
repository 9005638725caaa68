"""Images of a split as batches of pixels: for training a tokenizer, TokenAdapt, or a classifier of pixels."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import torch

from seit_ray.batches.batch import Batch, HostBatch, gather
from seit_ray.batches.sampler import step_rows
from seit_ray.images.listing import list_images
from seit_ray.images.sample import read_pixels
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

MEMORY_GIB = 16.0


@dataclass(frozen=True)
class ImageStore:
    """pixels uint8 [N,3,H,W] in memory and labels int64 [N] (-1 where there is none); names: the keys [N], if known."""

    pixels: np.ndarray
    labels: np.ndarray
    class_names: list[str] | None = None
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shuffle_rows(self) -> int:
        """0: all are shuffled together."""
        return 0

    def in_order(self, shuffle_rows: int) -> ImageStore:
        """The same images, which have one order only."""
        return self

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together."""
        return step_rows(len(self), global_batch_size, seed, step)

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""
        return HostBatch(gather(self.pixels, rows, pinned=pinned), gather(self.labels, rows, pinned=pinned))

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """Images uint8 [B,3,H,W] and labels int64 [B] of the given rows."""
        return self.host_batch(rows, pinned=device.type == "cuda").to(device)

    def keys(self, rows: np.ndarray) -> list[str]:
        """What the given images are called in their source; nothing where that is not known."""
        return [] if self.names is None else self.names[rows].tolist()

    def describe(self) -> str:
        """A few words on where the images are."""
        return f"{len(self)} images in memory, {self.pixels.nbytes / 2**20:,.0f} MiB"

    @classmethod
    def read(
        cls,
        source: Folder,
        settings: SourceSettings,
        *,
        image_size: int,
        resize: str,
        val_fraction: float = 0.0,
        seed: int = 0,
        max_images: int | None = None,
        num_threads: int | None = None,
        on_progress: Progress = silent,
    ) -> dict[str, Self]:
        """Every split of a source, decoded once into memory: {split: store}; unreadable images are left out.

        `max_images` takes a seeded sample of each split. ValueError when the pixels exceed MEMORY_GIB.
        """
        with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
            manifest = list_images(
                source, settings, Folder(name), val_fraction=val_fraction, seed=seed, on_progress=on_progress
            )
            wanted = {
                split: manifest.sample(split, min(max_images or s.num_images, s.num_images), seed)
                for split, s in manifest.splits.items()
                if s.num_images
            }
        num = sum(map(len, wanted.values()))
        gib = num * 3 * image_size**2 / 2**30
        if gib > MEMORY_GIB:
            raise ValueError(
                f"{num} images of {image_size}x{image_size} pixels take {gib:.0f} GiB; expected at most {MEMORY_GIB:g} "
                "GiB of memory; lower max_images or the image size"
            )
        stores = {}
        for split, rows in wanted.items():
            pixels, kept = read_pixels(
                rows,
                source,
                image_size=image_size,
                resize=resize,
                image_column=settings.image_column,
                num_threads=num_threads or os.cpu_count() or 1,
                phase=f"decode {split}",
                on_progress=on_progress,
            )
            stores[split] = cls(pixels, labels_of(kept), manifest.class_names, kept["key"].to_numpy())
        return stores


def labels_of(rows: pa.Table) -> np.ndarray:
    """Labels int64 [N] of manifest rows, -1 where there is none."""
    return rows["label"].fill_null(-1).to_numpy().astype(np.int64)
