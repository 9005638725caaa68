"""A token dataset anew, in another encoding or with a smaller codebook: shard by shard, verified, marker last."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from seit_ray.progress import Progress, silent
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.making import kept_shard, make_dataset, note_files, note_written, standing_dataset
from seit_ray.shards.marker import DatasetInfo, Split
from seit_ray.shards.parquet import TokenRows, concat_rows, decode_shard
from seit_ray.shards.rewrite_plan import existing, plan_of
from seit_ray.shards.synonyms import read_synonyms, write_synonyms
from seit_ray.shards.writing import WrittenShard, split_of, write_shard
from seit_ray.storage import Folder
from seit_ray.storage.output import refuse_overlap
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from seit_ray.tokenizers.used_codes import drop_unused_codes, renumber_tokens


def rewrite_dataset(
    dataset: TokenDataset,
    output: Folder,
    *,
    encoding: str | None = None,
    drop_unused: bool = False,
    rows_per_shard: int | None = None,
    on_progress: Progress = silent,
) -> DatasetInfo:
    """Write the same images as another dataset and verify it; what is left out stays as it was.

    `drop_unused` drops the codes that no split uses and renumbers the others, as SeiT made 391 of 8,192 codes; the
    tokenizer, and so its fingerprint, is another then. An output that holds another dataset, or is the dataset
    itself, is a ValueError; the same one again is left as it is.
    """
    plan = plan_of(dataset, encoding=encoding, drop_unused=drop_unused, rows_per_shard=rows_per_shard)
    refuse_overlap(output, dataset.folder, "dataset")
    look = functools.partial(existing, output, plan)
    if (finished := standing_dataset(output, look)) is not None:
        return finished

    def make() -> DatasetInfo:
        return rewrite_into(dataset, output, plan, plan["encoding"], drop_unused, rows_per_shard, on_progress)

    return make_dataset(output, plan, look, make, on_progress)


def rewrite_into(
    dataset: TokenDataset,
    output: Folder,
    plan: dict[str, Any],
    encoding: str,
    drop_unused: bool,
    rows_per_shard: int | None,
    on_progress: Progress,
) -> DatasetInfo:
    """Write everything but the marker, which is returned."""
    info = dataset.info
    tokenizer, about = load_tokenizer(dataset.folder.join("tokenizer"))
    synonyms, renumber = read_synonyms(dataset.folder), None
    if drop_unused:
        tokenizer, renumber = drop_unused_codes(tokenizer, histogram=torch.from_numpy(dataset.histogram()))
        synonyms = None  # of the old numbers; training makes a table of the codebook where there is none
    num_codes, num_classes = len(tokenizer.codebook), len(info.class_names or [])
    splits = {}
    for name, split in info.splits.items():
        made: list[WrittenShard] = []
        most = -(-split.rows // rows_per_shard) if rows_per_shard else len(split.shards)
        note_files(output, name, most, split.rejects)
        for rows in regrouped(dataset, name, rows_per_shard, renumber):
            made.append(rewritten_shard(rows, output, name, len(made), encoding, num_codes, num_classes))
            on_progress(f"rewrite {name}", sum(p.shard.rows for p in made), split.rows, "images")
        splits[name] = rewritten_split(dataset, output, name, made, num_codes, num_classes)
    mark = save_tokenizer(tokenizer, output.join("tokenizer"), about["report"])
    if synonyms is not None:
        write_synonyms(output, synonyms)
    return replace(
        info, splits=splits, source={}, tokenizer=mark, codebook_size=num_codes, encoding=encoding, plan=plan
    )


def rewritten_shard(
    rows: TokenRows, output: Folder, split: str, index: int, encoding: str, num_codes: int, num_classes: int
) -> WrittenShard:
    """Write a shard and read it back, unless an earlier call did."""
    counts = {"num_codes": num_codes, "num_classes": num_classes}
    made = kept_shard(output, split, index, num_rows=len(rows), **counts)
    if made is None:
        made = write_shard(rows, split=split, index=index, output=output, encoding=encoding, **counts)
        check_written(rows, output, f"{split}/{made.shard.name}", encoding=encoding, num_codes=num_codes)
        note_written(output, split, index, made)
    return made


def regrouped(
    dataset: TokenDataset, split: str, rows_per_shard: int | None, renumber: torch.Tensor | None
) -> Iterator[TokenRows]:
    """Rows of the shards to write, renumbered where asked: as they are, or that many at a time; 1.5 shards are held."""
    shards = dataset.iter_shards(split)
    if renumber is not None:
        shards = (TokenRows(renumbered(rows.tokens, renumber), rows.meta) for rows in shards)
    if rows_per_shard is None:
        yield from shards
        return
    held: list[TokenRows] = []
    for rows in shards:
        held.append(rows)
        while sum(map(len, held)) >= rows_per_shard:
            joined = concat_rows(held)
            yield joined.slice(0, rows_per_shard)
            held = [joined.slice(rows_per_shard, len(joined))]
    if sum(map(len, held)):
        yield concat_rows(held)


def check_written(rows: TokenRows, output: Folder, name: str, *, encoding: str, num_codes: int) -> None:
    """ValueError unless a shard, read back, holds these rows."""
    data = output.read(name)
    found = decode_shard(data, encoding=encoding, num_tokens=rows.tokens.shape[1], num_codes=num_codes)
    if not (np.array_equal(found.tokens, rows.tokens) and found.meta.equals(rows.meta.combine_chunks())):
        raise ValueError(f"{output.uri_of(name)} does not hold what was written; expected the same rows; run it again")


def renumbered(tokens: np.ndarray, renumber: torch.Tensor) -> np.ndarray:
    """Tokens uint16 [N,L] of the old codebook as those of the new one."""
    return renumber_tokens(torch.from_numpy(tokens.astype(np.int32)), renumber).numpy().astype(np.uint16)


def rewritten_split(
    dataset: TokenDataset, output: Folder, name: str, made: list[WrittenShard], num_codes: int, num_classes: int
) -> Split:
    """A split's entry of the marker; the tables of rejected images come along as they are."""
    split = dataset.split(name)
    for file, data in zip(split.rejects, dataset.iter_rejects(name), strict=True):
        output.write(f"{name}/{file.name}", data)
    return split_of(made, rejects=split.rejects, num_codes=num_codes, num_classes=num_classes)
