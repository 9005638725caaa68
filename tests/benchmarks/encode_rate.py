"""Images/s of an encoder actor of the tokenising job against those of its tokenizer alone, on the device at hand.

python tests/benchmarks/encode_rate.py [--tokenizer FOLDER] [--image-size S] [--patch-size P] [--codes K] ...

The tokenizer alone encodes a batch that lies on the device already; the actor gets slices as decode tasks hand them on:
it uploads their pixels, encodes, fetches the tokens and packs a row. Without a folder: centroids of random pixels.
"""

import argparse
import tempfile
import time

import numpy as np
import pyarrow as pa
import torch

from seit_ray.distributed.data.slices import EncodeSlices, one_row, table_bytes
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid_fit import fit_centroids
from seit_ray.tokenizers.files import save_tokenizer


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
    numbers = {"image-size": 64, "patch-size": 8, "codes": 256, "slice": 256, "batch": 64, "calls": 4, "rounds": 3}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(options.tokenizer or name)
        if not options.tokenizer:
            shape = (64, 3, options.image_size, options.image_size)
            pixels = torch.from_numpy(generator.integers(256, size=shape, dtype=np.uint8))
            fitted, _ = fit_centroids(pixels, patch_size=options.patch_size, codebook_size=options.codes, iterations=2)
            save_tokenizer(fitted, folder)
        actor = EncodeSlices(folder, options.batch, torch.cuda.is_available())
    tokenizer, device = actor.tokenizer, actor.device
    pixels = generator.integers(
        256, size=(options.slice, 3, tokenizer.image_size, tokenizer.image_size), dtype=np.uint8
    )
    empty = table_bytes(pa.table({"key": pa.array([], pa.string())}))
    size = tokenizer.image_size
    row = one_row(split="train", slice=0, image_size=size, pixels=pixels.tobytes(), meta=empty, rejected=empty)
    batch = torch.from_numpy(pixels[: options.batch]).to(device)
    alone = through = 0.0
    for _ in range(options.rounds):
        calls = max(1, options.calls * options.slice // len(batch))
        alone = max(alone, rate(tokenizer.encode, batch, len(batch), calls, device))
        through = max(through, rate(actor, row, options.slice, options.calls, device))
    print(
        f"{tokenizer.family} {size}x{size}, K {len(tokenizer.codebook)}, {device}, batches of {len(batch)}: tokenizer "
        f"{alone:.0f} images/s, actor {through:.0f} images/s, ratio {through / alone:.2f}"
    )


if __name__ == "__main__":
    main()
