"""How fast this machine fetches, decodes and encodes, and how small its tokens are, measured on a sample of images."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from seit_ray.images.decode import ImageError
from seit_ray.images.decoded import Decoding
from seit_ray.images.pairs import Contents
from seit_ray.images.reading import read_chunks
from seit_ray.images.sources.settings import Columns
from seit_ray.progress import Progress, silent
from seit_ray.report.costs import BYTES_OF_MB, Rates
from seit_ray.shards.encoding import encoding_named
from seit_ray.shards.parquet import parquet_bytes, token_column_bytes
from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import Tokenizer

CHUNK = 64  # images fetched, decoded and encoded together


@dataclass(frozen=True)
class Measured:
    """What was found on a sample; packed_bytes: of an image's tokens in a shard."""

    rates: Rates
    images: int
    image_bytes: float
    packed_bytes: float
    device: str


def measure_rates(
    listed: pa.Table,
    source: Folder,
    tokenizer: Tokenizer,
    *,
    image_column: str = Columns.image,
    encoding: str = "plain",
    device: str = "cpu",
    on_progress: Progress = silent,
) -> Measured:
    """Fetch, decode and encode the rows of a manifest in one thread; ValueError when none can be read.

    What the cores do is measured in CPU time, so that other work on the machine does not count. The first chunk is
    encoded twice, since the first time includes what is done once. Files read before are in memory, and so faster.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds, sizes, tokens = measured_steps(listed, source, tokenizer.to(device), image_column, device, on_progress)
    finally:
        torch.set_num_threads(threads)
        tokenizer.to("cpu")
    if not tokens:
        raise ValueError(f"none of {len(listed)} images in {source.uri} can be read; expected images; check the source")
    rows, number = np.concatenate(tokens).astype(np.uint16), len(sizes)
    codec = encoding_named(encoding)
    column = pa.table({"tokens": codec.pack(rows, len(tokenizer.codebook))})
    data = parquet_bytes(column, ["tokens.list.element"] * codec.dictionary, codec.group_rows(rows.shape[1]))
    encode_rate = number / seconds["encode"]
    rates = Rates(
        fetch_mb_per_s=sum(sizes) / BYTES_OF_MB / seconds["fetch"],
        decode_per_core=number / seconds["decode"],
        encode_per_core=encode_rate if device == "cpu" else None,
        encode_per_gpu=encode_rate if device != "cpu" else None,
    )
    return Measured(rates, number, sum(sizes) / number, token_column_bytes(data) / number, device)


def measured_steps(
    listed: pa.Table,
    source: Folder,
    tokenizer: Tokenizer,
    image_column: str,
    device: str,
    on_progress: Progress,
) -> tuple[dict[str, float], list[int], list[np.ndarray]]:
    """(seconds of each step, bytes of each image that can be read, tokens [B,L] of each chunk)."""
    seconds = dict.fromkeys(("fetch", "decode", "encode"), 0.0)
    decoding = Decoding(tokenizer.image_size, tokenizer.resize, image_column)
    encode_clock = time.process_time if device == "cpu" else time.perf_counter
    sizes: list[int] = []
    tokens: list[np.ndarray] = []
    for start in range(0, len(listed), CHUNK):
        rows = listed.slice(start, CHUNK)
        began = time.perf_counter()
        contents = [content for _, some in read_chunks(rows, source, decoding) for content in some]
        seconds["fetch"] += time.perf_counter() - began
        began = time.process_time()
        good, pixels = decoded(contents, decoding)
        seconds["decode"] += time.process_time() - began
        if pixels:
            images = torch.from_numpy(np.stack(pixels))
            if not tokens:
                tokenizer.encode(images.to(device)).cpu()
            began = encode_clock()
            tokens.append(tokenizer.encode(images.to(device)).cpu().numpy())  # .cpu() waits for the device
            seconds["encode"] += encode_clock() - began
        sizes += good
        on_progress("measure", min(start + CHUNK, len(listed)), len(listed), "images")
    return seconds, sizes, tokens


def decoded(contents: Contents, decoding: Decoding) -> tuple[list[int], list[np.ndarray]]:
    """(bytes, pixels) of the images that can be read; an error of the storage is raised."""
    sizes, pixels = [], []
    for data in contents:
        try:
            if isinstance(data, Exception):
                raise data
            assert isinstance(data, bytes)  # no label maps are asked for
            image = decoding.decode(data)
        except ImageError:
            continue
        sizes.append(len(data))
        pixels.append(image.pixels)
    return sizes, pixels
