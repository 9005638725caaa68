"""Small token datasets, made with the package's own functions as the tokenising job makes large ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.shards.parquet import META, REJECTED_SCHEMA, TokenRows
from seit_ray.shards.writing import rejected_name, split_of, write_rejects, write_shard
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.files import save_tokenizer

SIDE, NUM_CODES, NUM_CLASSES = 4, 16, 4


def learnable_rows(num, *, num_classes=NUM_CLASSES, seed=0, side=SIDE, num_codes=NUM_CODES, first=0):
    """Rows whose label shows in their tokens: most codes of a row are from its class's share of the codes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes or 1, size=num)
    share = max(1, num_codes // (num_classes or 1))
    own = labels[:, None] * share + rng.integers(share, size=(num, side * side))
    noise = rng.integers(num_codes, size=(num, side * side))
    tokens = np.where(rng.random((num, side * side)) < 0.8, own, noise).astype(np.uint16)
    meta = {
        "key": [f"image-{first + i:06d}.jpg" for i in range(num)],
        "label": labels.tolist() if num_classes else [None] * num,
        "width": rng.integers(1, 999, size=num).tolist(),
        "height": rng.integers(1, 999, size=num).tolist(),
        "source_bytes": rng.integers(1, 1 << 40, size=num).tolist(),
    }
    return TokenRows(tokens, pa.table(meta, pa.schema(META)))


def reject_table(num, first=0):
    """Rejects of that number."""
    keys = [f"bad-{first + i}.jpg" for i in range(num)]
    return pa.table({"key": keys, "reason": [f"no image: {k}" for k in keys]}, REJECTED_SCHEMA)


def tiny_tokenizer(*, seed=0, side=SIDE, num_codes=NUM_CODES, patch_size=1):
    """One token a pixel, or a square of them."""
    codebook = torch.rand(num_codes, 3 * patch_size**2, generator=torch.Generator().manual_seed(seed))
    return CentroidTokenizer(codebook, image_size=side * patch_size, patch_size=patch_size)


def write_split(folder, name, rows, *, num_rejected, rows_per_shard, encoding, num_codes, num_classes):
    """Rows -> shards; the split's entry of the marker. The first shards have the rejects beside them."""
    sizes = {"num_codes": num_codes, "num_classes": num_classes}
    made, rejects = [], []
    for index, start in enumerate(range(0, len(rows), rows_per_shard)):
        part = rows.slice(start, min(len(rows), start + rows_per_shard))
        made.append(write_shard(part, split=name, index=index, output=folder, encoding=encoding, **sizes))
    for index in range(num_rejected):
        rejects.append(write_rejects(reject_table(1, index), name, rejected_name(index), folder))
    return split_of(made, rejects=rejects, **sizes)


def write_dataset(
    path,
    *,
    sizes=None,
    num_rejected=2,
    num_classes=NUM_CLASSES,
    num_codes=NUM_CODES,
    side=SIDE,
    encoding="plain",
    rows_per_shard=10,
    tokenizer_seed=0,
    patch_size=1,
):
    """A complete dataset of learnable rows in a folder; sizes: rows a split, by default 25 train, 8 val."""
    folder = Folder(path)
    splits = {
        name: write_split(
            folder,
            name,
            learnable_rows(num, num_classes=num_classes, seed=seed, side=side, num_codes=num_codes),
            num_rejected=num_rejected,
            rows_per_shard=rows_per_shard,
            encoding=encoding,
            num_codes=num_codes,
            num_classes=num_classes,
        )
        for seed, (name, num) in enumerate((sizes or {"train": 25, "val": 8}).items())
    }
    tokenizer = tiny_tokenizer(seed=tokenizer_seed, side=side, num_codes=num_codes, patch_size=patch_size)
    info = DatasetInfo(
        tokenizer=save_tokenizer(tokenizer, folder.join("tokenizer")),
        family=tokenizer.family,
        image_size=tokenizer.image_size,
        grid=tokenizer.grid,
        codebook_size=num_codes,
        encoding=encoding,
        class_names=[f"class {i}" for i in range(num_classes)] if num_classes else None,
        splits=splits,
        plan={"images": "photos", "seed": 0},
        versions={"python": "3"},
    )
    folder.write(MARKER, info.to_json())
    return folder
