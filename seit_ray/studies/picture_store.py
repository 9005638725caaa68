"""What an arm of pixels stores: encoded images and labels in Parquet, compressed together, and their real bytes.

A folder with data/train-00000.parquet, data/val-00000.parquet and so on, which any verb reads as images, and
bytes.json, written last.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from seit_ray.batches.image_shards import FEW_UNREADABLE, MOST_UNREADABLE
from seit_ray.images.decode import ImageError
from seit_ray.images.decoded import Decoding
from seit_ray.images.manifest import Manifest, white_level_of
from seit_ray.images.reading import read_chunks
from seit_ray.images.recode import Recoding
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.shards.parquet import parquet_table
from seit_ray.storage import Folder
from seit_ray.studies.stored import Stored, fitting, read_stored, write_stored

SPLITS = ("train", "val")
GROUP_ROWS = 256  # images compressed together, and read together
FILE_BYTES = 256 << 20
DATA = "data"
COLUMNS, ROWS = ("image", "label"), "rows"
MAGIC = b"PAR1"  # what a Parquet file begins with, before its first group


def listed_rows(manifest: Manifest, split: str, max_images: int | None, seed: int) -> Iterator[pa.Table]:
    """Rows of a split, some at a time: all, or a seeded sample of so many."""
    if max_images is not None and num_taken(manifest, split, max_images) == max_images:
        sample = manifest.sample(split, max_images, seed)
        for start in range(0, len(sample), GROUP_ROWS):
            yield sample.slice(start, GROUP_ROWS)
        return
    for part in range(manifest.splits[split].num_parts):
        yield manifest.read_part(split, part)


class PictureFiles:
    """Writes the images of a split as Parquet files of about FILE_BYTES, in groups that are compressed together."""

    def __init__(self, output: Folder, split: str, class_names: list[str]) -> None:
        self.output, self.split, self.schema = output, split, schema_of(class_names)
        self.held: list[tuple[bytes, int]] = []
        self.columns = dict.fromkeys((*COLUMNS, ROWS), 0)
        self.num_files = 0
        self.sink = io.BytesIO()
        self.writer = writer_of(self.sink, self.schema)
        for entry in list(output.list(f"{split}-")):  # of an attempt that ended half-way
            output.delete(entry.name)

    def add(self, image: bytes, label: int) -> None:
        """One more image."""
        self.held.append((image, label))
        if len(self.held) == GROUP_ROWS:
            self.write_group()
            if self.sink.tell() > FILE_BYTES:
                self.write_file()

    def write_group(self) -> None:
        """Compress what is held."""
        if self.held:
            images, labels = zip(*self.held, strict=True)
            columns = [pa.array(images, pa.binary()), pa.array(labels, pa.int32())]
            self.writer.write_table(pa.table(columns, schema=self.schema))
            self.held.clear()

    def write_file(self) -> None:
        """End a file and begin the next."""
        self.writer.close()
        data = self.sink.getvalue()
        for name, number in column_bytes(data).items():
            self.columns[name] += number
        self.output.write(f"{self.split}-{self.num_files:05}.parquet", data)
        self.num_files += 1
        self.sink = io.BytesIO()
        self.writer = writer_of(self.sink, self.schema)

    def close(self) -> dict[str, int]:
        """Compressed bytes of image and label, and rows."""
        self.write_group()
        if self.sink.tell() > len(MAGIC) or not self.num_files:
            self.write_file()
        return self.columns


def num_taken(manifest: Manifest, split: str, max_images: int | None) -> int:
    """How many images `listed_rows` gives."""
    listed = manifest.splits[split].num_images
    return listed if max_images is None else min(listed, max_images)


def store_pictures(
    manifest: Manifest,
    source: Folder,
    output: Folder,
    recoding: Recoding,
    *,
    image_column: str = "image",
    max_images: int | None = None,
    seed: int = 0,
    on_progress: Progress = silent,
) -> Stored:
    """Every image of train and val as `recoding` gives it; what cannot be read is left out and counted.

    ValueError for more of these than a training bears.
    """
    found: dict[str, dict[str, int]] = {}
    rejected = 0
    for split in SPLITS:
        files, done = PictureFiles(output.join(DATA), split, manifest.class_names or []), 0
        lost, reason = 0, ""
        for rows in listed_rows(manifest, split, max_images, seed):
            for image, label in recoded_rows(rows, source, recoding, image_column):
                if isinstance(image, ImageError):
                    lost, reason = lost + 1, str(image)
                else:
                    files.add(image, label)
            done += len(rows)
            on_progress(f"encode {split}", done, num_taken(manifest, split, max_images), "images")
        found[split] = files.close()
        check_rejected(lost, done, split, source, reason)
        rejected += lost
    train = found["train"]
    size = {"pixels": train["image"] + train["label"]}
    more: dict[str, Any] = {"rejected": rejected, "white_level": manifest.white_level}
    stored = Stored(train[ROWS], found["val"][ROWS], size, train["label"], **more)
    write_stored(output, stored)
    return stored


def check_rejected(rejected: int, listed: int, split: str, source: Folder, reason: str) -> None:
    """ValueError where so many of a split's images cannot be read as end a training, or all; reason: of the last."""
    if rejected > max(FEW_UNREADABLE, MOST_UNREADABLE * listed) or rejected == listed > 0:
        raise ValueError(
            f"{rejected} of {listed} images in split {split!r} of {source.uri} cannot be read, the last: {reason}; "
            f"expected at most {MOST_UNREADABLE:.0%}; mend them, or leave them out by source.exclude"
        )


def picture_source(stored: Stored) -> SourceSettings:
    """How the images of a store are read."""
    return SourceSettings(kind="parquet", white_level=stored.white_level)


def recoded_rows(
    rows: pa.Table, source: Folder, recoding: Recoding, image_column: str
) -> Iterator[tuple[bytes | ImageError, int]]:
    """(file, or why it cannot be read; label) of rows of a manifest."""
    white_level = white_level_of(rows)

    def one(data: bytes | Exception) -> bytes | ImageError:
        try:
            if isinstance(data, Exception):
                raise data
            return recoding.of(data, white_level=white_level)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for chunk, contents in read_chunks(rows, source, Decoding(1, "squash", image_column)):
            labels = chunk["label"].fill_null(-1).to_pylist()
            yield from zip(pool.map(one, contents), labels, strict=True)


def schema_of(class_names: list[str]) -> pa.Schema:
    """Columns image and label, the names of the classes beside them as Hugging Face datasets writes them."""
    features = {"image": {"_type": "Image"}, "label": {"names": class_names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema({"image": pa.binary(), "label": pa.int32()}, metadata=metadata)


def class_names_of(schema: pa.Schema) -> list[str]:
    """The names that `schema_of` wrote."""
    return json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]


def writer_of(sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Images are compressed together, so that small ones do not pay for the headers that all of them repeat."""
    return pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=["label"], write_statistics=False)


def column_bytes(data: bytes) -> dict[str, int]:
    """Compressed bytes of each column of a Parquet file, and its rows."""
    meta = pq.ParquetFile(pa.BufferReader(data)).metadata
    found = dict.fromkeys(COLUMNS, 0)
    for i in range(meta.num_row_groups):
        for j in range(meta.row_group(i).num_columns):
            column = meta.row_group(i).column(j)
            name = column.path_in_schema.partition(".")[0]
            found[name] = found.get(name, 0) + column.total_compressed_size
    return {**found, ROWS: meta.num_rows}


def picture_subset(store: Folder, output: Folder, budget: int, seed: int) -> Stored:
    """As many images of a store, drawn at random, as fit into the budget with their labels; val stays whole."""
    whole = read_stored(store)
    order = np.random.default_rng([seed, 1]).permutation(whole.images)

    def of(num: int) -> Stored:
        columns = write_rows(store.join(DATA), output.join(DATA), np.sort(order[:num]))
        size = columns["image"] + columns["label"]
        level = whole.white_level
        return Stored(columns[ROWS], whole.test_images, {"pixels": size}, columns["label"], white_level=level)

    stored = fitting(of, whole, budget)
    for entry in list(store.join(DATA).list("val-")):
        output.join(DATA).write(entry.name, store.join(DATA).read(entry.name))
    write_stored(output, stored)
    return stored


def write_rows(store: Folder, output: Folder, chosen: np.ndarray) -> dict[str, int]:
    """Rows int64 [n], ascending, of the train files of a store as files of their own; as `PictureFiles.close`."""
    files: PictureFiles | None = None
    first = 0
    for entry in sorted(store.list("train-"), key=lambda entry: entry.name):
        table = parquet_table(store.read(entry.name))
        files = files or PictureFiles(output, "train", class_names_of(table.schema))
        here = chosen[(chosen >= first) & (chosen < first + len(table))] - first
        rows = table.take(pa.array(here))
        for image, label in zip(rows["image"].to_pylist(), rows["label"].to_pylist(), strict=True):
            files.add(image, label)
        first += len(table)
    assert files is not None  # a store has a file at least
    return files.close()
