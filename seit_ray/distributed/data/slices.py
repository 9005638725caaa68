"""The tokenising job: slices of the manifest -> fetch and decode (tasks) -> encode (actors) -> fragments (tasks).

A row of the Ray dataset is one slice. A fragment that stands is never made again, so a rerun does what is missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from seit_ray.distributed.cluster import user_error
from seit_ray.distributed.resources import Resources
from seit_ray.images.manifest import Manifest, load_manifest
from seit_ray.images.slices import Decoding, decode_slice
from seit_ray.shards.fragments import Fragment, write_fragment
from seit_ray.shards.parquet import META, REJECTED_SCHEMA, TokenRows
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.uploads import parts_on

SLICES_AN_ACTOR = 8  # at least, on CPUs
TOGETHER_BYTES = 16 << 20  # pixels of the slices that travel as one batch, for each batch costs Ray some 10 ms
BATCHES_A_CORE = 8  # at least, so that all stay busy to the end


def run_slices(
    todo: list[tuple[str, int]],
    *,
    manifest_folder: Folder,
    source: Folder,
    tokenizer_folder: Folder,
    fragments: Folder,
    cluster: Resources,
    num_actors: int | None,
    gpus_per_actor: float | None,
    batch_size: int,
    slice_size: int,
    image_column: str,
    mode: str,
    max_bytes: int,
    max_pixels: int,
    on_fragment: Callable[[Fragment], None],
) -> None:
    """Make the fragments of the given (split, slice) pairs; ValueError for what a user can mend."""
    tokenizer, _ = load_tokenizer(tokenizer_folder)
    decoding = Decoding(tokenizer.image_size, tokenizer.resize, image_column, mode, max_bytes, max_pixels)
    map_slices(
        todo,
        DecodeSlices(manifest_folder, source, decoding),
        EncodeSlices,
        (tokenizer_folder, batch_size),
        WriteFragments(fragments),
        slice_size=slice_size,
        cluster=cluster,
        num_actors=num_actors,
        gpus_per_actor=gpus_per_actor,
        on_fragment=on_fragment,
    )


def map_slices(
    todo: list[tuple[str, int]],
    decode: DecodeSlices,
    encoder: type[SliceStep],
    encoder_arguments: tuple[Any, ...],
    write: SliceStep,
    *,
    slice_size: int,
    cluster: Resources,
    num_actors: int | None,
    gpus_per_actor: float | None,
    on_fragment: Callable[[Fragment], None],
) -> None:
    """Map (split, slice) pairs through decode tasks, actors of `encoder` and write tasks, whose rows are fragments.

    Actors are made of `encoder_arguments` and whether they have a GPU. ValueError for what a user can mend.
    """
    gpus = cluster.gpus_each(gpus_per_actor)
    size = max(1, min(num_actors or default_actors(cluster, gpus, len(todo)), len(todo)))
    rows = [{"split": split, "slice": index} for split, index in todo]
    options: dict[str, Any] = {
        "batch_size": slices_together(len(todo), slice_size * 3 * decode.decoding.image_size**2, cluster),
        "batch_format": "pyarrow",
    }
    # A block is what one decode task takes: small enough that all CPUs stay busy to the end, large enough that
    # starting a task (about 10 ms) does not show.
    num_blocks = max(1, min(len(todo), 4096, max(len(todo) // 8, int(4 * cluster.num_cpus))))
    ray.data.DataContext.get_current().raise_original_map_exception = True  # else the user's mistake is lost in Ray's
    data: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=num_blocks)
    data = data.map_batches(
        decode,
        **options,
        # two tasks a core where the source is remote: one waits for objects while the other decodes
        num_cpus=0.5 if decode.source.is_remote else 1,
    )
    data = data.map_batches(
        encoder,
        fn_constructor_args=(*encoder_arguments, gpus > 0),
        **options,
        compute=ray.data.ActorPoolStrategy(min_size=1 if gpus else size, max_size=size),
        num_gpus=gpus or None,
        num_cpus=0,  # decode tasks own the CPUs; an actor that held one could starve them for ever
    )
    data = data.map_batches(write, **options, num_cpus=0.25)
    try:
        for row in data.iter_rows():
            on_fragment(Fragment(row["split"], row["slice"], row["rows"], row["rejected"]))
    except Exception as error:
        mistake = user_error(error)
        if mistake is None:
            raise
        raise mistake from error


def default_actors(cluster: Resources, gpus_each: float, num_slices: int) -> int:
    """Actors of a job: what the GPUs hold; without them one a core, for decoding or encoding may be the longer work.

    Each takes some seconds to start, so that a job of few slices has few.
    """
    if gpus_each:
        return int(cluster.num_gpus / gpus_each)
    return min(int(cluster.num_cpus), -(-num_slices // SLICES_AN_ACTOR))


def slices_together(num_slices: int, slice_bytes: int, cluster: Resources) -> int:
    """How many slices travel as one batch: more than one where they are small and many."""
    most = num_slices // int(BATCHES_A_CORE * max(1, cluster.num_cpus))
    return max(1, min(TOGETHER_BYTES // slice_bytes, most))


class SliceStep(ABC):
    """A step of the job: of batches of slices, a row each, one after the other."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.concat_tables([self.slice(batch.slice(row, 1)) for row in range(len(batch))])

    @abstractmethod
    def slice(self, row: pa.Table) -> pa.Table:
        """The row of one slice -> what the next step takes of it."""


def one_row(**values: Any) -> pa.Table:
    """A table of one row; bytes become large_binary, for slices of more than 2 GiB."""
    types = {bytes: pa.large_binary(), str: pa.string(), int: pa.int64()}
    return pa.table({k: pa.array([v], types[type(v)]) for k, v in values.items()})


def table_bytes(table: pa.Table) -> bytes:
    """A table in Arrow's stream format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def bytes_table(value: Any) -> pa.Table:
    """The inverse of `table_bytes`, for a binary scalar."""
    return pa.ipc.open_stream(value.as_buffer()).read_all()


class DecodeSlices(SliceStep):
    """Task: (split, slice) -> uint8 pixels of the slice's good images, their rows of the manifest, and the rejects."""

    def __init__(self, manifest_folder: Folder, source: Folder, decoding: Decoding):
        self.manifest_folder, self.source, self.decoding = manifest_folder, source, decoding
        self.manifest: Manifest | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None}  # each worker reads its own slices

    def slice(self, row: pa.Table) -> pa.Table:
        self.manifest = self.manifest or load_manifest(self.manifest_folder)
        assert self.manifest is not None  # the job has listed
        split, index = row["split"][0].as_py(), row["slice"][0].as_py()
        decoded = decode_slice(self.manifest, split, index, self.source, self.decoding)
        return one_row(
            split=split,
            slice=index,
            image_size=self.decoding.image_size,
            pixels=decoded.pixels.tobytes(),
            meta=table_bytes(decoded.rows),
            rejected=table_bytes(decoded.rejected),
        )


def pixels_of(row: pa.Table) -> torch.Tensor:
    """uint8 images [N,3,H,W] of the row that `DecodeSlices` gives."""
    size = row["image_size"][0].as_py()
    # a copy: torch warns of read-only memory, and the block is Ray's
    pixels = np.frombuffer(row["pixels"][0].as_buffer(), np.uint8).reshape(-1, 3, size, size).copy()
    return torch.from_numpy(pixels)


def encoding_device(on_gpu: bool) -> torch.device:
    """The device of an actor; Ray may count a GPU that this torch cannot use: a build for CPUs, a test's node."""
    return torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")


class EncodeSlices(SliceStep):
    """Actor: pixels -> tokens, with the tokenizer on its device."""

    def __init__(self, tokenizer_folder: Folder, batch_size: int, on_gpu: bool):
        self.tokenizer, _ = load_tokenizer(tokenizer_folder)
        self.batch_size, self.device = batch_size, encoding_device(on_gpu)
        self.tokenizer.to(self.device)

    def slice(self, row: pa.Table) -> pa.Table:
        num_tokens = self.tokenizer.grid[0] * self.tokenizer.grid[1]
        images = pixels_of(row)
        tokens = self.encode(images) if len(images) else np.empty((0, num_tokens), np.uint16)
        out = row.drop_columns(["pixels"]).append_column("tokens", pa.array([tokens.tobytes()], pa.large_binary()))
        return out.append_column("num_tokens", pa.array([num_tokens]))

    def encode(self, images: torch.Tensor) -> np.ndarray:
        """tokens uint16 [N,L] of uint8 images [N,3,H,W], N at least 1; one wait for the device."""
        parts = parts_on(self.device, images, self.batch_size)
        tokens = torch.cat([self.tokenizer.encode(part).to(torch.int32) for part in parts])
        return tokens.cpu().numpy().astype(np.uint16)


class WriteFragments(SliceStep):
    """Task: tokens -> one fragment file, written atomically."""

    def __init__(self, fragments: Folder):
        self.fragments = fragments

    def slice(self, row: pa.Table) -> pa.Table:
        values = {name: row[name][0] for name in row.column_names}
        tokens = np.frombuffer(values["tokens"].as_buffer(), np.uint16).reshape(-1, values["num_tokens"].as_py())
        rows = TokenRows(tokens, bytes_table(values["meta"]).select(list(META)))
        rejected = bytes_table(values["rejected"]).select(REJECTED_SCHEMA.names)
        made = write_fragment(self.fragments, values["split"].as_py(), values["slice"].as_py(), rows, rejected)
        return pa.table({k: [v] for k, v in made._asdict().items()})
