"""Images of a split as batches of pixels, decoded as they are needed: for trainings that see pixels.

The listing is a file beside the run, so that a continued run, and every worker of it, sees the same images under the
same numbers. Some hundred of them are a shard of pixels, which the first process of a node that needs it decodes. As
many are held as memory allows: all, if they fit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from seit_ray.batches.batch import Batch, HostBatch, taken
from seit_ray.batches.held import HeldShards
from seit_ray.batches.image_shards import ImageShards
from seit_ray.batches.memory import MOST_READERS, memory_budget, shared_out
from seit_ray.batches.store import label_layout
from seit_ray.images.decoded import Decoding
from seit_ray.images.manifest import Manifest
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder

SHARD_ROWS = 256  # images that are decoded together
LABEL_BYTES = 8


@dataclass(frozen=True)
class ImageRows:
    """The images of a split, by number: all of a manifest whose parts are shards, or a sample of it."""

    manifest: Manifest
    split: str
    sample: pa.Table | None = None  # as of `Manifest.sample`

    @classmethod
    def of(cls, manifest: Manifest, split: str, max_images: int | None, seed: int) -> ImageRows:
        """All images, or a seeded sample of so many."""
        if max_images is None or max_images >= manifest.splits[split].num_images:
            return cls(manifest, split)
        return cls(manifest, split, manifest.sample(split, max_images, seed))

    @property
    def shard_rows(self) -> list[int]:
        """Images of each shard."""
        if self.sample is None:
            parts = self.manifest.splits[self.split].num_parts
            return [self.manifest.part_images(self.split, part) for part in range(parts)]
        return [len(self.sample.slice(start, SHARD_ROWS)) for start in range(0, len(self.sample), SHARD_ROWS)]

    def read(self, shard: int) -> pa.Table:
        """Rows of the manifest, in order of id."""
        if self.sample is None:
            return self.manifest.read_part(self.split, shard)
        return self.sample.slice(shard * SHARD_ROWS, SHARD_ROWS)

    def labels(self) -> np.ndarray:
        """Labels int64 [N], -1 for none."""
        columns = self.manifest.labels(self.split) if self.sample is None else [self.sample["label"]]
        return np.concatenate([column.fill_null(-1).to_numpy().astype(np.int64) for column in columns])


class ImageStream:
    """Images uint8 [N,3,H,W] by their number, within `memory_bytes` of a node (two shards at least; see `HeldShards`).

    What its readers need on the way is part of that memory. Where `decoding.masks` asks for them, their labels are
    label maps uint8 [N,H,W].

    An image that cannot be read is told of (`on_progress`), and the next one that can, of its shard, stands in for it
    with its own label: numbers are decided by the listing alone. Too many of them are a ValueError (`ImageShards`).
    Figures leave them out (`ReadImages`).
    """

    def __init__(
        self,
        rows: ImageRows,
        source: Folder,
        decoding: Decoding,
        *,
        memory_bytes: int,
        shuffle_rows: int | None = None,
        on_progress: Progress = silent,
    ):
        self.images, self.source, self.decoding, self.on_progress = rows, source, decoding, on_progress
        self.class_names = rows.manifest.class_names
        self.memory_bytes = memory_bytes
        row_bytes = decoding.pixel_bytes + (LABEL_BYTES if self.map_side is None else self.map_side**2)
        cpus = torch.get_num_threads()  # of a worker, as many as it has CPUs
        shard_rows = rows.shard_rows
        num_readers, held_bytes = shared_out(memory_bytes, len(shard_rows), row_bytes, cpus)
        self.shards = ImageShards(
            rows.read,
            rows.split,
            sum(shard_rows),
            source,
            decoding,
            num_threads=min(MOST_READERS, cpus),
            on_progress=on_progress,
        )
        self.held = HeldShards(
            shard_rows,
            self.shards.read,
            row_bytes=row_bytes,
            memory_bytes=held_bytes,
            shuffle_rows=shuffle_rows,
            num_readers=num_readers,
        )
        self.shards.most = min(len(self), self.held.rows_held)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def map_side(self) -> int | None:
        """Side of the label maps that stand in place of labels; None for labels."""
        return self.decoding.image_size if self.decoding.masks else None

    @property
    def shuffle_rows(self) -> int:
        """How many rows are shuffled at a time; all where they fit."""
        return self.held.shuffle_rows

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 [N] of the listing, -1 for none."""
        return self.images.labels()

    def labels_as_read(self) -> np.ndarray:
        """Labels int64 [N] as batches have them, -1 for none: of stand-ins their own. Decodes every image."""
        parts = [slice(start, start + SHARD_ROWS) for start in range(0, len(self), SHARD_ROWS)]
        return np.concatenate([np.empty(0, np.int64), *(self.held.rows(part, ("labels",))[0] for part in parts)])

    def step_rows(self, global_batch_size: int, seed: int, step: int) -> np.ndarray:
        """Sample numbers int64 [G] of a step, for all ranks together; has what comes next decoded ahead."""
        return self.held.step_rows(global_batch_size, seed, step)

    def host_batch(self, rows: np.ndarray | slice, *, pinned: bool = False) -> HostBatch:
        """The given rows on the host."""
        pixels, labels, _ = self.arrays(rows)
        return HostBatch(taken(pixels, pinned=pinned), taken(labels, pinned=pinned))

    def arrays(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels and labels of the given rows, and which of them bool [B] can be read: others have a stand-in."""
        size = self.decoding.image_size
        if found := self.held.rows(rows, ("pixels", "labels", "read")):
            return found[0], found[1], found[2]
        return np.empty((0, 3, size, size), np.uint8), np.empty(*label_layout(0, self.map_side)), np.empty(0, bool)

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """Images uint8 [B,3,H,W] and labels int64 [B] of the given rows."""
        return self.host_batch(rows, pinned=device.type == "cuda").to(device)

    def keys(self, rows: np.ndarray) -> list[str]:
        """What the given images are called in their source."""
        found = np.searchsorted(self.held.starts, rows, "right") - 1
        names = {shard: self.images.read(shard)["key"].to_pylist() for shard in set(found.tolist())}
        return [names[shard][row - self.held.starts[shard]] for shard, row in zip(found, rows, strict=True)]

    def in_order(self, shuffle_rows: int) -> ImageStream:
        """The same images in the order of a run that shuffles so many at a time."""
        if shuffle_rows == self.shuffle_rows:
            return self
        return ImageStream(
            self.images,
            self.source,
            self.decoding,
            memory_bytes=self.memory_bytes,
            shuffle_rows=shuffle_rows,
            on_progress=self.on_progress,
        )

    def close(self) -> None:
        """Read nothing more ahead, after an error."""
        self.held.close()
        self.shards.close()

    def describe(self) -> str:
        """A few words on where the images are."""
        held = min(self.held.rows_held, len(self))
        size = f"{held * self.decoding.pixel_bytes / 2**20:,.0f} MiB"
        if held == len(self):
            return f"{len(self)} images, {size} in memory"
        return f"{len(self)} images decoded ahead, {size} of them in memory, shuffled {self.shuffle_rows} at a time"


class ReadImages:
    """The images of a stream by their numbers there, as figures are of them: those that cannot be read are left out.

    Which they are is known of what was decoded alone: no image is decoded to find them.
    """

    def __init__(self, stream: ImageStream) -> None:
        self.stream = stream
        self.lost = set[int]()  # numbers of those that batches have left out

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 [N] of the listing, -1 for none."""
        return self.stream.labels

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> Batch:
        """Images uint8 [B,3,H,W] and labels int64 [B] of the given ones that can be read."""
        pixels, labels, read = self.stream.arrays(rows)
        pinned = device.type == "cuda"
        if read.all():
            return HostBatch(taken(pixels, pinned=pinned), taken(labels, pinned=pinned)).to(device)
        self.leave_out(np.arange(len(self))[rows][~read])
        found = HostBatch(taken(pixels[read], pinned=pinned), taken(labels[read], pinned=pinned)).to(device)
        return replace(found, places=torch.from_numpy(np.flatnonzero(read)))

    def leave_out(self, numbers: np.ndarray) -> None:
        """Tell how many are left out, once for each."""
        before, stream = len(self.lost), self.stream
        self.lost.update(numbers.tolist())
        if (lost := len(self.lost)) > before:
            note = f"{lost} of {len(self)} images that cannot be read are left out of the figures"
            stream.on_progress(f"{stream.images.split} faults", lost, lost, note)  # as done: always shown


def open_images(
    manifest: Manifest,
    source: Folder,
    decoding: Decoding,
    *,
    max_images: int | None = None,
    seed: int = 0,
    splits: Collection[str] | None = None,
    memory_gib: float | None = None,
    on_progress: Progress = silent,
) -> dict[str, ImageStream]:
    """{split: its images} of a listing in parts of SHARD_ROWS, at most max_images of each, a seeded sample.

    splits: those that are wanted, or all. Together they take memory_gib of a node (half of its memory by default),
    each by its share of the images.
    """
    images = {
        split: ImageRows.of(manifest, split, max_images, seed)
        for split, listed in sorted(manifest.splits.items())
        if listed.num_images and (splits is None or split in splits)
    }
    numbers = {split: sum(rows.shard_rows) for split, rows in images.items()}
    budget, total = memory_budget(memory_gib), sum(numbers.values())
    return {
        split: ImageStream(
            rows, source, decoding, memory_bytes=budget * numbers[split] // total, on_progress=on_progress
        )
        for split, rows in images.items()
    }
