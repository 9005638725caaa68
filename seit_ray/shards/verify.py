"""Find whatever is wrong with a token dataset: flipped bytes, missing or extra files, wrong counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from seit_ray.images.label_maps import VOID, unpack_map
from seit_ray.progress import Progress, silent
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.dataset_files import names_of, sizes_of
from seit_ray.shards.marker import DatasetInfo
from seit_ray.shards.parquet import MASK, TokenRows, checksum, parquet_table
from seit_ray.shards.statistics import code_histogram
from seit_ray.shards.synonyms import read_synonyms
from seit_ray.storage.output import WORK, is_dotted
from seit_ray.tokenizers.files import load_tokenizer


def verify(dataset: TokenDataset, on_progress: Progress = silent) -> list[str]:
    """Every fault of a dataset in one line each; empty when it is sound. Reads every byte."""
    faults = tokenizer_faults(dataset) + source_faults(dataset) + extra_faults(dataset)
    total = sum(len(s.shards) for s in dataset.info.splits.values())
    done = 0
    for name, split in dataset.info.splits.items():
        faults += rejected_faults(dataset, name)
        histogram = np.zeros(dataset.info.codebook_size, np.int64)
        labels = np.zeros(len(split.label_counts), np.int64)
        for shard in split.shards:
            try:
                rows = dataset.read_shard(name, shard)
                histogram += code_histogram(rows.tokens, dataset.info.codebook_size)
                labels += label_histogram(rows.meta["label"], len(labels))
                check_maps(rows, dataset.info)
            except ValueError as error:
                faults.append(f"{name}/{shard.name}: {error}")
            done += 1
            on_progress("verify", done, total, "shards")
        whole = not any(f.startswith(f"{name}/") for f in faults)
        if whole and histogram.tolist() != split.code_histogram:
            faults.append(f"{name}: the code histogram differs from dataset.json")
        if whole and labels.tolist() != split.label_counts:
            faults.append(f"{name}: the label counts differ from dataset.json")
    return faults


def label_histogram(labels: pa.ChunkedArray, num_classes: int) -> np.ndarray:
    """Counts int64 [C] of a nullable label column; ValueError when one is not below C."""
    values = labels.drop_null().to_numpy()
    counts = np.bincount(values, minlength=num_classes) if len(values) else np.zeros(num_classes, np.int64)
    if len(counts) > num_classes:
        raise ValueError(f"label {len(counts) - 1}; expected below {num_classes}, the number of classes")
    return counts


def check_maps(rows: TokenRows, info: DatasetInfo) -> None:
    """ValueError unless each row of a dataset of pairs has a label map of its image's size and of known classes."""
    if info.map_labels is None:
        return
    if MASK not in rows.meta.column_names:
        raise ValueError(f"no column {MASK}; expected a label map for each image")
    columns = (rows.meta[name].to_pylist() for name in ("key", MASK, "width", "height"))
    for key, data, width, height in zip(*columns, strict=True):
        classes = unpack_map(data or b"")
        if classes.shape != (height, width):
            raise ValueError(f"label map of {key} {list(classes.shape)}; expected [{height},{width}]")
        if (highest := classes[classes != VOID].max(initial=0)) >= info.map_labels.num_classes:
            raise ValueError(f"label map of {key} with class {highest}; expected below {info.map_labels.num_classes}")


def tokenizer_faults(dataset: TokenDataset) -> list[str]:
    """Whether the tokenizer beside the shards is the one that they were made with, and its synonyms are whole."""
    try:
        _, about = load_tokenizer(dataset.folder.join("tokenizer"))
    except ValueError as error:
        return [f"tokenizer: {error}"]
    if about["fingerprint"] != dataset.info.tokenizer:
        return [f"tokenizer: fingerprint {about['fingerprint']}; expected {dataset.info.tokenizer}"]
    try:
        synonyms = read_synonyms(dataset.folder)
    except ValueError as error:
        return [f"tokenizer/synonyms.json: {error}"]
    if synonyms is not None and len(synonyms) != dataset.info.codebook_size:
        return [f"tokenizer/synonyms.json: {len(synonyms)} codes; expected {dataset.info.codebook_size}"]
    return []


def source_faults(dataset: TokenDataset) -> list[str]:
    """Whether the files that say what the dataset was made of are there and unaltered."""
    faults = []
    for name, known in dataset.info.source.items():
        try:
            if checksum(dataset.folder.read(name)) != known:
                faults.append(f"{name}: wrong checksum")
        except ValueError as error:
            faults.append(f"{name}: {error}")
    return faults


def extra_faults(dataset: TokenDataset) -> list[str]:
    """What lies in folders of the dataset and is no part of it, whatever it is called.

    But for the work of a job that adds to it, and for names that begin with a dot. Files beside dataset.json, such as
    records of verbs, are no data.
    """
    known = names_of(dataset.info)
    return [
        f"{name}: not in dataset.json"
        for name in sorted(sizes_of(dataset.folder, "").keys() - known)
        if "/" in name and not name.startswith(f"{WORK}/") and not is_dotted(name)
    ]


def rejected_faults(dataset: TokenDataset, split: str) -> list[str]:
    """Whether the tables of rejects are there, unaltered and of the right length."""
    faults = []
    for file in dataset.split(split).rejects:
        name = f"{split}/{file.name}"
        try:
            data = dataset.folder.read(name)
            if checksum(data) != file.sha256:
                faults.append(f"{name}: wrong checksum")
            elif (rows := len(parquet_table(data))) != file.rows:
                faults.append(f"{name}: {rows} rows; expected {file.rows}")
        except (ValueError, OSError) as error:
            faults.append(f"{name}: {error}")
    return faults
