"""Parts of the manifest -> tokenise and segment -> label maps and a table, by Ray's actors or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seit_ray.distributed.data.parts import PartSource, PartWorker
from seit_ray.evaluation.image_segmenter import ImageSegmenter
from seit_ray.evaluation.map_predictions import map_counts, map_tables
from seit_ray.evaluation.prediction_parts import PredictFiles, check_weights_mark
from seit_ray.images.decoded import DecodedImages
from seit_ray.images.label_maps import pack_map
from seit_ray.progress import Times
from seit_ray.shards.parquet import checksum
from seit_ray.shards.parts import Part
from seit_ray.storage import Folder
from seit_ray.storage.output import note_names
from seit_ray.tokenizers.uploads import parts_on

MOST_BATCH = 16  # images of a forward pass: their logits are a number a class and pixel


@dataclass(frozen=True)
class Segmenting:
    """By which run, and where its maps go."""

    run: Folder
    tokenizer: Folder | None
    weights: str
    model: str  # `weights_mark` of them
    batch_size: int
    files: PredictFiles


class SegmentParts(PartWorker):
    """Actor, or a plain object: the images of a part -> their label maps and its table, with all on the device."""

    def __init__(self, source: PartSource, how: Segmenting, **options: Any):
        super().__init__(source, **options)
        self.how = how
        self.patiently(lambda: check_weights_mark(how.run, how.weights, how.model))
        self.segmenter = self.patiently(
            lambda: ImageSegmenter.load(how.run, tokenizer=how.tokenizer, weights=how.weights)
        )
        self.segmenter.to(self.device)

    @property
    def records(self) -> Folder:
        return self.how.files.records

    def part(self, split: str, index: int, decoded: Iterable[DecodedImages], times: Times) -> Callable[[], Part]:
        """Segment the images as they come; each map is written at once, for those of a part may be gigabytes."""
        tables: list[tuple[pa.Table, pa.Table]] = []
        pixels = np.zeros(len(self.segmenter.class_names), np.int64)
        written: list[dict[str, Any]] = []
        output = self.how.files.tables
        for number, images in enumerate(decoded):
            table, refused = map_tables(split, images.rows, images.rejected)
            names, kind = table["map"].to_pylist(), f"maps-{split}-{index:06}-{number:06}"
            if names:
                self.patiently(partial(note_names, output, kind, names))
            for name, classes in zip(names, self.maps(images), strict=True):
                pixels += np.bincount(classes.ravel(), minlength=len(pixels))
                data = pack_map(self.segmenter.labels.values_of(classes))
                self.patiently(partial(output.write, name, data))
                written.append({"name": name, "rows": 1, "bytes": len(data), "sha256": checksum(data)})
            tables.append((table, refused))
            del images  # no chunk is kept while the next is waited for
        good, refused = (pa.concat_tables(some).combine_chunks() for some in zip(*tables, strict=True))
        counts = map_counts(len(good), pixels, self.segmenter.class_names)
        return lambda: self.how.files.write(split, index, good, refused, counts=counts, more=written)

    def maps(self, images: DecodedImages) -> Iterator[np.ndarray]:
        """Classes uint8 [H,W] of each image at its own size, in order."""
        if not len(images.rows):
            return
        # a copy: torch warns of memory that may only be read, as that of Ray's objects
        pixels = images.pixels if images.pixels.flags.writeable else images.pixels.copy()
        sizes = iter(zip(images.rows["height"].to_pylist(), images.rows["width"].to_pylist(), strict=True))
        for part in parts_on(self.device, torch.from_numpy(pixels), min(self.how.batch_size, MOST_BATCH)):
            with self.turn:
                found = [self.segmenter.label_map(one, next(sizes)).cpu() for one in self.segmenter.logits(part)]
            for one in found:
                yield one.numpy()
