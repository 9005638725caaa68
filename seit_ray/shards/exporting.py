"""A token dataset out as the files of SeiT's release, the way back from `importing`. Shapes: N images, K codes.

<split>-token.data.bin.gz, <split>-token.index.npy.gz, <split>-label.txt, codebook.ckpt, synonyms.json.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable

import numpy as np

from seit_ray.progress import Progress, silent
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.published import ABOUT, check_export, encode_labels, encode_offsets, encode_stream
from seit_ray.shards.synonyms import encode_published, read_synonyms
from seit_ray.storage import Folder
from seit_ray.tokenizers.codebook_only import encode_codebook
from seit_ray.tokenizers.files import load_tokenizer


def run_export(
    dataset: TokenDataset,
    output: Folder,
    on_progress: Progress = silent,
    before_marker: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Write the files of every split, the codebook and the synonyms, then what says that all are there; bytes by name.

    A split is held in memory, gzipped. ValueError for more codes than escape bytes can hold, for a split of which
    only some images have labels, and for a file that is there already with other bytes.
    """
    check_export(dataset, output)
    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    synonyms = read_synonyms(dataset.folder)
    about = {"grid": list(tokenizer.grid), "image_size": tokenizer.image_size, "metric": tokenizer.metric}
    files = {"codebook.ckpt": encode_codebook(tokenizer.codebook)}
    if synonyms is not None:
        files["synonyms.json"] = encode_published(synonyms)
    sizes = {name: write_new(output, name, data) for name, data in files.items()}
    for split in dataset.info.splits:
        for name, data in encode_split(dataset, split, on_progress).items():
            sizes[f"{split}-{name}"] = write_new(output, f"{split}-{name}", data)
    before_marker()
    sizes[ABOUT] = write_new(output, ABOUT, json.dumps(about, indent=1).encode())  # last: the export is whole
    return sizes


def encode_split(dataset: TokenDataset, split: str, on_progress: Progress) -> dict[str, bytes]:
    """The files of a split by the end of their names; the same rows give the same bytes (with the same zlib)."""
    blob, lengths, labels = io.BytesIO(), [np.zeros(0, np.int64)], []
    total, done = dataset.split(split).rows, 0
    with gzip.GzipFile(fileobj=blob, mode="wb", mtime=0) as stream:
        for rows in dataset.iter_shards(split):
            data, sizes = encode_stream(rows.tokens, done)
            stream.write(data.data)
            lengths.append(sizes)
            labels += rows.meta["label"].to_pylist()
            done += len(rows)
            on_progress(f"export {split}", done, total, "images")
    files = {
        "token.data.bin.gz": blob.getvalue(),
        "token.index.npy.gz": encode_offsets(np.concatenate(lengths)),
    }
    if None not in labels:  # else there are none at all: see `check_export`
        files["label.txt"] = encode_labels(np.array(labels, np.int64))
    return files


def write_new(output: Folder, name: str, data: bytes) -> int:
    """Write a file that is not there, or there with the same bytes; its size; ValueError for other bytes."""
    if output.exists(name):
        if output.read(name) != data:
            raise ValueError(f"{output.uri_of(name)} is there with other bytes; expected none; choose another output")
    else:
        output.write(name, data)
    return len(data)
