"""What an arm of tokens stores: a token dataset made in this process, by a tokenizer fitted on its train images.

The datasets are those of `tokenize_images`; here a trial of a study makes one, so that many are made side by side.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.images.manifest import Manifest
from seit_ray.images.sample import read_pixels
from seit_ray.progress import Progress, silent
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import MARKER, DatasetInfo, Split
from seit_ray.shards.parquet import META, TokenRows, concat_rows, encode_shard, token_column_bytes
from seit_ray.shards.synonyms import NUM_SYNONYMS, SYNONYMS, write_synonyms
from seit_ray.shards.writing import WrittenShard, rejected_name, split_of, write_rejects, write_shard
from seit_ray.storage import Folder
from seit_ray.studies.arms import CentroidSettings
from seit_ray.studies.picture_store import check_rejected, column_bytes, listed_rows, num_taken
from seit_ray.studies.stored import Stored, fitting, read_stored, write_stored
from seit_ray.tokenizers.centroid_fit import fit_centroids
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer

SHARD_ROWS = 16_384
FILES = ("tokenizer.safetensors", "tokenizer.json")  # of the tokenizer, which is counted


def fit_on(
    manifest: Manifest,
    source: Folder,
    settings: CentroidSettings,
    *,
    image_column: str = "image",
    max_images: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    on_progress: Progress = silent,
) -> tuple[Tokenizer, dict[str, Any]]:
    """A centroid tokenizer of a sample of the train images that are stored, and the report of the fit."""
    if max_images is None:
        rows = manifest.sample("train", settings.sample_images, seed)
    else:  # of another number from the same seed, the draw is another one, and not part of the first
        rows = manifest.sample("train", max_images, seed)
        chosen = np.random.default_rng([seed, 2]).permutation(len(rows))[: settings.sample_images]
        rows = rows.take(pa.array(np.sort(chosen)))
    pixels, _ = read_pixels(
        rows,
        source,
        image_size=settings.image_size,
        resize=settings.resize,
        image_column=image_column,
        num_threads=torch.get_num_threads(),
        on_progress=on_progress,
    )
    return fit_centroids(
        torch.from_numpy(pixels),
        patch_size=settings.patch_size,
        codebook_size=settings.codebook_size,
        resize=settings.resize,
        iterations=settings.iterations,
        sample_patches=settings.sample_patches,
        seed=seed,
        device=device,
        on_progress=on_progress,
    )


def tokenised(
    manifest: Manifest,
    source: Folder,
    output: Folder,
    tokenizer: Tokenizer,
    report: dict[str, Any],
    *,
    plan: dict[str, Any],
    encoding: str = "compact",
    image_column: str = "image",
    max_images: int | None = None,
    seed: int = 0,
    on_progress: Progress = silent,
) -> DatasetInfo:
    """The token dataset of all splits, or of a seeded sample of each, marker last. plan: what else decided it."""
    mark = save_tokenizer(tokenizer, output.join("tokenizer"), report)
    codes = len(tokenizer.codebook)
    write_synonyms(output, nearest_codes(tokenizer.codebook, min(NUM_SYNONYMS, codes - 1), tokenizer.metric))
    names, splits = manifest.class_names, {}
    for split in sorted(manifest.splits):
        made: list[WrittenShard] = []
        refused: list[pa.Table] = []
        rows = encoded_rows(manifest, source, tokenizer, split, refused, image_column, max_images, seed, on_progress)
        for part in in_shards(rows):
            more = {"encoding": encoding, "num_codes": codes, "num_classes": len(names or [])}
            made.append(write_shard(part, split=split, index=len(made), output=output, **more))  # type: ignore[arg-type]
        lost = sum(map(len, refused))
        check_rejected(lost, lost + sum(part.shard.rows for part in made), split, source, last_reason(refused))
        rejects = [write_rejects(pa.concat_tables(refused), split, rejected_name(0), output)] if refused else []
        splits[split] = split_of(made, rejects=rejects, num_codes=codes, num_classes=len(names or []))
    info = dataset_info(tokenizer, mark, encoding, names, splits, {**plan, "manifest": manifest.digest})
    output.write(MARKER, info.to_json())
    return info


def last_reason(refused: Sequence[pa.Table]) -> str:
    """The last image that cannot be read, and why."""
    return f"{refused[-1]['key'][-1]}: {refused[-1]['reason'][-1]}" if refused else ""


def dataset_info(
    tokenizer: Tokenizer, mark: str, encoding: str, names: list[str] | None, splits: dict[str, Split], plan: Any
) -> DatasetInfo:
    """The content of dataset.json."""
    return DatasetInfo(
        tokenizer=mark,
        family=tokenizer.family,
        image_size=tokenizer.image_size,
        grid=tokenizer.grid,
        codebook_size=len(tokenizer.codebook),
        encoding=encoding,
        class_names=names,
        splits=splits,
        plan=plan,
        versions={"python": platform.python_version(), "pyarrow": pa.__version__, "torch": torch.__version__},
    )


def encoded_rows(
    manifest: Manifest,
    source: Folder,
    tokenizer: Tokenizer,
    split: str,
    refused: list[pa.Table],
    image_column: str,
    max_images: int | None,
    seed: int,
    on_progress: Progress,
) -> Iterator[TokenRows]:
    """Tokens of a split, some images at a time; what cannot be read goes to `refused` (key, reason)."""
    decoding, done = Decoding(tokenizer.image_size, tokenizer.resize, image_column), 0
    for listed in listed_rows(manifest, split, max_images, seed):
        for images in decoded_chunks(listed, source, decoding, num_threads=torch.get_num_threads()):
            if len(images.rejected):
                refused.append(images.rejected.select(["key", "reason"]))
            if len(images.rows):
                tokens = tokenizer.encode(torch.from_numpy(images.pixels)).cpu().numpy().astype(np.uint16)
                yield TokenRows(tokens, images.rows.select(list(META)))
        done += len(listed)
        on_progress(f"tokenise {split}", done, num_taken(manifest, split, max_images), "images")


def in_shards(rows: Iterator[TokenRows]) -> Iterator[TokenRows]:
    """The same rows, SHARD_ROWS or a few more at a time."""
    held: list[TokenRows] = []
    for part in rows:
        held.append(part)
        if sum(map(len, held)) >= SHARD_ROWS:
            yield concat_rows(held)
            held = []
    if held:
        yield concat_rows(held)


def count_tokens(dataset: TokenDataset, encodings: Sequence[str]) -> Stored:
    """The bytes that train takes in each encoding, and those of the tokenizer's files."""
    train, codes = dataset.split("train"), dataset.info.codebook_size
    data, labels = dict.fromkeys(encodings, 0), dict.fromkeys(encodings, 0)
    for rows in dataset.iter_shards("train"):
        for encoding in encodings:
            shard = encode_shard(rows, encoding=encoding, num_codes=codes)
            labels[encoding] += column_bytes(shard)["label"]
            data[encoding] += token_column_bytes(shard) + column_bytes(shard)["label"]
    folder = dataset.folder.join("tokenizer")
    tokenizer = sum(folder.size(name) or 0 for name in FILES)
    rejected = sum(split.rejected for split in dataset.info.splits.values())
    smallest = labels[min(data, key=lambda name: data[name])]
    return Stored(train.rows, dataset.split("val").rows, data, smallest, tokenizer, rejected)


def token_subset(store: Folder, output: Folder, budget: int, encoding: str, seed: int) -> Stored:
    """As many rows of a store's train split, drawn at random, as fit into the budget beside labels and tokenizer.

    store: a folder with `data`, a token dataset, and its counts; output gets the same. val stays whole.
    """
    whole = read_stored(store)
    dataset = TokenDataset(store.join("data"))
    rows, info = dataset.read_split("train"), dataset.info
    order = np.random.default_rng([seed, 1]).permutation(len(rows))

    def chosen(num: int) -> TokenRows:
        some = np.sort(order[:num])
        return TokenRows(rows.tokens[some], rows.meta.take(pa.array(some)).combine_chunks())

    def of(num: int) -> Stored:
        shard = encode_shard(chosen(num), encoding=encoding, num_codes=info.codebook_size)
        labels = column_bytes(shard)["label"]
        data = {encoding: token_column_bytes(shard) + labels}
        return Stored(num, whole.test_images, data, labels, whole.tokenizer_bytes)

    stored = fitting(of, replace(whole, data_bytes={encoding: whole.data_bytes[encoding]}), budget)
    into = output.join("data")
    tokenizer, about = load_tokenizer(dataset.folder.join("tokenizer"))
    save_tokenizer(tokenizer, into.join("tokenizer"), about["report"])
    into.write(SYNONYMS, dataset.folder.read(SYNONYMS))
    splits = {}
    for name, part in (("train", chosen(stored.images)), ("val", dataset.read_split("val"))):
        more: dict[str, Any] = {"num_codes": info.codebook_size, "num_classes": len(info.class_names or [])}
        made = write_shard(part, split=name, index=0, output=into, encoding=encoding, **more)
        splits[name] = split_of([made], **more)
    plan = {**info.plan, "budget": budget, "seed": seed}
    into.write(MARKER, dataset_info(tokenizer, info.tokenizer, encoding, info.class_names, splits, plan).to_json())
    write_stored(output, stored)
    return stored
