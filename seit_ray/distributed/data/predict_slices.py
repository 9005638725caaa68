"""Slices of the manifest -> decode -> tokenise and classify -> parts of a table, mapped by Ray or in this process."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

from seit_ray.distributed.data.slices import (
    DecodeSlices,
    SliceStep,
    bytes_table,
    encoding_device,
    map_slices,
    pixels_of,
)
from seit_ray.distributed.resources import Resources
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.evaluation.predictions import encode_parquet, part_table
from seit_ray.images.slices import ahead
from seit_ray.shards.fragments import Fragment
from seit_ray.shards.parquet import parquet_table
from seit_ray.storage import Folder
from seit_ray.tokenizers.uploads import parts_on

READ_TOGETHER = 64  # parts
MAX_THREADS = 8  # that decode in this process: each holds a slice of pixels


def predict_slices(
    todo: list[tuple[str, int]],
    decode: DecodeSlices,
    classifier: tuple[Folder, Folder | None, str, int],
    write: WriteParts,
    *,
    slice_size: int,
    cluster: Resources | None,
    num_actors: int | None,
    gpus_per_actor: float | None,
    on_fragment: Callable[[Fragment], None],
) -> None:
    """Make the parts of the given (split, slice) pairs; without a cluster in this process, on its GPU if it has one.

    `classifier` are the arguments of `ClassifySlices` but the last. ValueError for what a user can mend.
    """
    if cluster is not None:
        map_slices(
            todo,
            decode,
            ClassifySlices,
            classifier,
            write,
            slice_size=slice_size,
            cluster=cluster,
            num_actors=num_actors,
            gpus_per_actor=gpus_per_actor,
            on_fragment=on_fragment,
        )
        return
    classify = ClassifySlices(*classifier, torch.cuda.is_available())
    pairs = [pa.table({"split": [split], "slice": [index]}) for split, index in todo]
    for decoded in ahead(decode, pairs, min(MAX_THREADS, os.cpu_count() or 1)):
        (made,) = write(classify(decoded)).to_pylist()
        on_fragment(Fragment(**made))


class ClassifySlices(SliceStep):
    """Actor, or a plain call: pixels of a slice -> probabilities float32 [N,C], with all models on its device."""

    def __init__(self, run: Folder, tokenizer: Folder | None, weights: str, batch_size: int, on_gpu: bool):
        self.classifier = ImageClassifier.load(run, tokenizer=tokenizer, weights=weights)
        self.batch_size, self.device = batch_size, encoding_device(on_gpu)
        self.classifier.to(self.device)

    def slice(self, row: pa.Table) -> pa.Table:
        images = pixels_of(row)
        parts = parts_on(self.device, images, self.batch_size)
        found = [self.classifier.logits(part).softmax(dim=1) for part in parts]
        num_classes = len(self.classifier.class_names)
        values = torch.cat(found).cpu().numpy() if found else np.empty((0, num_classes), np.float32)
        column = pa.array([values.tobytes()], pa.large_binary())
        return row.drop_columns(["pixels"]).append_column("values", column)


class WriteParts(SliceStep):
    """Task, or a plain call: probabilities -> the table of one slice, written atomically."""

    def __init__(
        self,
        parts: Folder,
        *,
        class_names: list[str],
        source_names: list[str] | None,
        probabilities: bool,
        top_k: int,
    ):
        self.parts, self.num_classes = parts, len(class_names)
        self.table = functools.partial(
            part_table, class_names=class_names, source_names=source_names, probabilities=probabilities, top_k=top_k
        )

    def slice(self, row: pa.Table) -> pa.Table:
        cells = {name: row[name][0] for name in row.column_names}
        values = np.frombuffer(cells["values"].as_buffer(), np.float32).reshape(-1, self.num_classes)
        rejected = bytes_table(cells["rejected"])
        table = self.table(bytes_table(cells["meta"]), rejected, values)
        made = Fragment(cells["split"].as_py(), cells["slice"].as_py(), len(values), len(rejected))
        self.parts.write(made.name, encode_parquet(table))
        return pa.table({k: [v] for k, v in made._asdict().items()})


def read_parts(folder: Folder, parts: list[Fragment]) -> list[pa.Table]:
    """The tables of finished parts, in order; ValueError when one is damaged."""
    tables = []
    for start in range(0, len(parts), READ_TOGETHER):
        batch = parts[start : start + READ_TOGETHER]
        for part, data in zip(batch, folder.read_many([p.name for p in batch]), strict=True):
            if isinstance(data, Exception):
                raise data
            try:
                tables.append(parquet_table(data))
            except (pa.ArrowException, OSError) as error:
                raise ValueError(
                    f"{folder.uri_of(part.name)} cannot be read ({' '.join(str(error).split())}); expected a finished "
                    "part; delete it and run again"
                ) from error
    return tables
