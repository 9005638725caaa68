"""Rows/s of gathering batches from a split in memory, and of a stream of shards from disk; one thread, no Ray.

python tests/benchmarks/batch_rate.py [--rows 200000] [--tokens 1024] [--batch 4096] [--batches 50] [--shard 16384]
                                      [--stream-rows 65536]

The rows are in the node's shared memory, as training workers have them; batches are rows of an epoch's order, as 16-bit
tensors on the host: what a GPU is then given. The stream holds --stream-rows rows and reads the rest as it goes.
"""

import argparse
import tempfile
import time

import numpy as np
import pyarrow as pa
import torch

from seit_ray.batches.sampler import num_steps
from seit_ray.batches.store import TokenStore
from seit_ray.batches.stream import TokenStream, row_bytes
from seit_ray.shards import TokenDataset
from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.shards.parquet import META, TokenRows
from seit_ray.shards.writing import split_of, write_shard
from seit_ray.storage import Folder

NUM_CODES, NUM_CLASSES = 391, 1000


def write_rows(folder: Folder, num: int, side: int, rows_per_shard: int) -> TokenDataset:
    """A dataset of random codes."""
    generator = np.random.default_rng(0)
    made = []
    for index, start in enumerate(range(0, num, rows_per_shard)):
        count = min(rows_per_shard, num - start)
        meta = {
            "key": [f"image-{start + i:09d}" for i in range(count)],
            "label": generator.integers(NUM_CLASSES, size=count).tolist(),
            "width": [256] * count,
            "height": [256] * count,
            "source_bytes": [109_000] * count,
        }
        tokens = generator.integers(NUM_CODES, size=(count, side * side)).astype(np.uint16)
        rows = TokenRows(tokens, pa.table(meta, pa.schema(META)))
        options = {"encoding": "plain", "num_codes": NUM_CODES, "num_classes": NUM_CLASSES}
        made.append(write_shard(rows, split="train", index=index, output=folder, **options))
    split = split_of(made, num_codes=NUM_CODES, num_classes=NUM_CLASSES)
    names = [str(i) for i in range(NUM_CLASSES)]
    info = DatasetInfo("benchmark", "codebook", side * 8, [side, side], NUM_CODES, "plain", names, {"train": split}, {})
    folder.write(MARKER, info.to_json())
    return TokenDataset(folder)


def rate(store: TokenStore | TokenStream, batch: int, batches: int) -> float:
    """Rows/s of batches in the order of an epoch, after a first one."""
    store.host_batch(store.step_rows(batch, 0, 0))
    since = time.perf_counter()
    for step in range(1, batches + 1):
        store.host_batch(store.step_rows(batch, 0, step))
    return batch * batches / (time.perf_counter() - since)


def main() -> None:
    """Print what reading takes, and both rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"rows": 200_000, "tokens": 1024, "batch": 4096, "batches": 50, "shard": 16384, "stream-rows": 65536}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    side = round(options.tokens**0.5)
    with tempfile.TemporaryDirectory() as name:
        dataset = write_rows(Folder(name), options.rows, side, options.shard)
        since = time.perf_counter()
        store = TokenStore.read(dataset, "train", need_labels=True)
        first_s = time.perf_counter() - since
        since = time.perf_counter()
        again = TokenStore.read(dataset, "train", need_labels=True)
        again_s = time.perf_counter() - since
        print(f"{store.describe()}: {first_s:.1f} s for the first process of a node, {again_s:.2f} s for another")
        print(f"gathered: {rate(again, options.batch, options.batches) / 1e6:.2f} M rows/s of {side * side} tokens")
        stream = TokenStream(dataset, "train", memory_bytes=options.stream_rows * row_bytes(dataset))
        batches = num_steps(options.rows, options.batch, 1) - 1
        print(f"{stream.describe()}: {rate(stream, options.batch, batches) / 1e3:.0f} k rows/s over an epoch")


if __name__ == "__main__":
    main()
