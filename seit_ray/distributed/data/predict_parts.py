"""Parts of the manifest -> tokenise and classify -> parts of a table, by Ray's actors or in this process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seit_ray.distributed.data.parts import PartSource, PartWorker
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.evaluation.prediction_parts import PredictFiles, check_weights_mark
from seit_ray.evaluation.predictions import part_tables
from seit_ray.images.decoded import DecodedImages
from seit_ray.progress import Times
from seit_ray.shards.parts import Part
from seit_ray.storage import Folder
from seit_ray.tokenizers.uploads import parts_on


@dataclass(frozen=True)
class Classifying:
    """By which run, and what of its predictions is kept."""

    run: Folder
    tokenizer: Folder | None
    weights: str
    model: str  # `weights_mark` of them
    batch_size: int
    files: PredictFiles
    class_names: list[str]
    source_names: list[str] | None
    probabilities: bool
    top_k: int


class ClassifyParts(PartWorker):
    """Actor, or a plain object: the images of a part -> its table, with all models on the device."""

    def __init__(self, source: PartSource, how: Classifying, **options: Any):
        super().__init__(source, **options)
        self.how = how
        self.patiently(lambda: check_weights_mark(how.run, how.weights, how.model))
        self.classifier = self.patiently(
            lambda: ImageClassifier.load(how.run, tokenizer=how.tokenizer, weights=how.weights)
        )
        self.classifier.to(self.device)
        self.table = functools.partial(
            part_tables,
            class_names=how.class_names,
            source_names=how.source_names,
            probabilities=how.probabilities,
            top_k=how.top_k,
        )

    def part(self, split: str, index: int, decoded: Iterable[DecodedImages], times: Times) -> Callable[[], Part]:
        """Classify the images as they come."""
        # a table for some images at a time: the probabilities of a whole part may be gigabytes
        tables: list[tuple[pa.Table, pa.Table]] = []
        for images in decoded:
            with self.turn:
                found = self.probabilities(images.pixels)
            values = torch.cat(found).cpu().numpy() if found else np.empty((0, len(self.how.class_names)), np.float32)
            tables.append(self.table(images.rows, images.rejected, values))
            del images  # no chunk is kept while the next is waited for
        good, refused = (pa.concat_tables(some).combine_chunks() for some in zip(*tables, strict=True))
        return lambda: self.how.files.write(split, index, good, refused)

    @property
    def records(self) -> Folder:
        return self.how.files.records

    def probabilities(self, images: np.ndarray) -> list[torch.Tensor]:
        """float32 [N,C] on the device, in batches, of uint8 images [N,3,H,W]."""
        # a copy: torch warns of memory that may only be read, as that of Ray's objects
        pixels = torch.from_numpy(images if images.flags.writeable else images.copy())
        parts = parts_on(self.device, pixels, self.how.batch_size)
        return [self.classifier.logits(part).softmax(dim=1) for part in parts]
