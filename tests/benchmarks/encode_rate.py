"""Images/s of an actor of the tokenising job against those of its tokenizer alone, on the device at hand.

python -m tests.benchmarks.encode_rate [--tokenizer FOLDER] [--image-size S] [--patch-size P] [--codes K] ...

The tokenizer alone encodes a batch that lies on the device already; the actor gets a part in chunks, as they come from
decoding: it uploads their pixels, encodes, fetches the tokens and writes a shard. Without a folder: centroids of random
pixels.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch

from seit_ray.distributed.data.parts import PartSource
from seit_ray.distributed.data.tokenize_parts import TokenizeParts
from seit_ray.images.decoded import FOUND, DecodedImages, Decoding
from seit_ray.progress import Times
from seit_ray.shards.parts import PartFiles
from seit_ray.shards.rejects import RejectLimit
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid_fit import fit_centroids
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from tests.images.found import ImageRecord, write_manifest


def make_actor(work: Folder, tokenizer: Folder, rows: int, batch_size: int) -> TokenizeParts:
    """A plain object of the actor's class, and a manifest of one part for it."""
    loaded, _ = load_tokenizer(tokenizer)
    records = (ImageRecord(f"{i:06}.jpg", f"/images/{i:06}.jpg", None, None, 1000) for i in range(rows))
    write_manifest(records, work.join("manifest"), val_fraction=0.0, seed=0, rows_per_part=rows)
    source = PartSource(work.join("manifest"), work, Decoding(loaded.image_size, loaded.resize), work)
    files = PartFiles(work.join("tokens"), work.join("records"), "plain", len(loaded.codebook), 0, {})
    limit = RejectLimit(rows, 0, 0.0)
    mark = fingerprint(loaded)
    return TokenizeParts(source, files, limit, tokenizer, mark, batch_size, gpu_share=float(torch.cuda.is_available()))


def in_chunks(rows: pa.Table, pixels: np.ndarray) -> Iterator[DecodedImages]:
    """Rows of a manifest with the same pixels [N,3,H,W] for each N of them."""
    for name, kind in FOUND.items():
        rows = rows.append_column(name, pa.array([1000] * len(rows), kind))
    rejected = rows.slice(0, 0).append_column("reason", pa.array([], pa.string()))
    for start in range(0, len(rows), len(pixels)):
        chunk = rows.slice(start, len(pixels))
        yield DecodedImages(pixels[: len(chunk)], chunk, rejected)


def finished(actor: TokenizeParts, decoded: Iterator[DecodedImages]) -> None:
    """What an actor does with decoded images, again each time."""
    actor.part("train", 0, decoded, Times())()
    actor.records.delete_tree("")


def settle(device: torch.device) -> None:
    """Wait for a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(function, argument, num_images: int, calls: int, device: torch.device) -> float:
    """Images/s of calls, after a first one."""
    function(argument)
    settle(device)
    began = time.perf_counter()
    for _ in range(calls):
        function(argument)
    settle(device)
    return num_images * calls / (time.perf_counter() - began)


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer")
    numbers = {"image-size": 64, "patch-size": 8, "codes": 256, "part": 1024, "chunk": 256, "batch": 64}
    for name, default in {**numbers, "calls": 1, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        work = Folder(name)
        folder = Folder(options.tokenizer) if options.tokenizer else work.join("tokenizer")
        if not options.tokenizer:
            shape = (64, 3, options.image_size, options.image_size)
            pixels = torch.from_numpy(generator.integers(256, size=shape, dtype=np.uint8))
            fitted, _ = fit_centroids(pixels, patch_size=options.patch_size, codebook_size=options.codes, iterations=2)
            save_tokenizer(fitted, folder)
        actor = make_actor(work, folder, options.part, options.batch)
        tokenizer, device = actor.tokenizer, actor.device
        size = tokenizer.image_size
        pixels = generator.integers(256, size=(options.chunk, 3, size, size), dtype=np.uint8)
        listed = actor.manifest.read_part("train", 0)
        batch = torch.from_numpy(pixels[: options.batch]).to(device)
        alone = through = 0.0
        for _ in range(options.rounds):
            calls = max(1, options.calls * options.part // len(batch))
            alone = max(alone, rate(tokenizer.encode, batch, len(batch), calls, device))
            through = max(
                through,
                rate(
                    lambda rows: finished(actor, in_chunks(rows, pixels)),
                    listed,
                    options.part,
                    options.calls,
                    device,
                ),
            )
    print(
        f"{tokenizer.family} {size}x{size}, K {len(tokenizer.codebook)}, {device}, batches of {len(batch)}: tokenizer "
        f"{alone:.0f} images/s, actor {through:.0f} images/s, ratio {through / alone:.2f}"
    )


if __name__ == "__main__":
    main()
