"""The end of a tokenising job: fragments -> shards as Ray tasks, then the marker, in one step for all readers."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.distributed.cluster import user_error
from seit_ray.images.known import names_to_write, write_known
from seit_ray.images.manifest import Manifest
from seit_ray.progress import Progress
from seit_ray.shards.dataset import MARKER, DatasetInfo, Split, TokenDataset
from seit_ray.shards.fragments import Fragment
from seit_ray.shards.joining import WrittenShard, join_rejected, join_shard, plan_shards, shard_name, split_of
from seit_ray.shards.synonyms import FILE as SYNONYMS
from seit_ray.shards.synonyms import write_synonyms
from seit_ray.storage import Folder
from seit_ray.storage.output import note_names
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import save_tokenizer

READY_TOGETHER, LOOK_S = 100, 1.0  # tasks that are taken as done at a time, and how long they are waited for
NUM_SYNONYMS = 10  # of each code, stored with a dataset: twice as many as SeiT picks from


def write_shards(
    output: Folder,
    work: Folder,
    rows_per_shard: int,
    encoding: str,
    manifest: Manifest,
    done: dict[str, dict[int, Fragment]],
    tokenizer: Tokenizer,
    base: DatasetInfo | None,
    retried: dict[str, set[str]],
    on_progress: Progress,
) -> dict[str, Split]:
    """Write every split's shards and rejects as Ray tasks, behind those of `base`; the splits' files and counts.

    retried: split -> keys of the base's rejects that the manifest lists again.
    """
    fragments, num_tokens = work.join("fragments"), tokenizer.grid[0] * tokenizer.grid[1]
    sizes = {"num_codes": len(tokenizer.codebook), "num_classes": len(class_names_of(manifest, base) or [])}
    before = dict(base.splits) if base is not None else {}
    as_task: Any = ray.remote(num_cpus=1)  # Ray annotates no keyword-only arguments
    remote_join, remote_rejected = as_task(join_shard), as_task(join_rejected)
    ordered = {
        split: [done[split][i] for i in sorted(done.get(split, {}))] for split in sorted({*manifest.splits, *before})
    }
    shards = {
        (split, index): pieces
        for split, parts in ordered.items()
        for index, pieces in enumerate(
            plan_shards(parts, rows_per_shard), len(before[split].shards) if split in before else 0
        )
    }
    rejects = {
        split: next_rejected_name(before.get(split))
        for split, parts in ordered.items()
        if any(f.rejected for f in parts) or retried.get(split)
    }
    names = [f"{split}/{shard_name(index)}" for split, index in shards]
    names += [f"{split}/{name}" for split, name in rejects.items()]
    # and what they replace: the marker of a finished append names it no more
    names += [f"{split}/{before[split].rejected_name}" for split in rejects if split in before]
    note_names(output, "shards", names)
    tasks: dict[tuple[str, int], Any] = {}
    rejected_tasks: dict[str, Any] = {}
    for (split, index), pieces in shards.items():
        options = {"index": index, "fragments": fragments, "output": output, "encoding": encoding}
        tasks[split, index] = remote_join.remote(pieces, num_tokens=num_tokens, **options, **sizes)
    for split, name in rejects.items():
        kept = kept_rejects(output, split, retried[split]) if split in before else None
        options = {"name": name, "before": kept}
        rejected_tasks[split] = remote_rejected.remote(split, ordered[split], fragments, output, num_tokens, **options)
    made, checksums = results_of(tasks, rejected_tasks, on_progress)
    splits = {}
    for split, parts in ordered.items():
        new = split_of(
            [made[k] for k in sorted(made) if k[0] == split],
            rejected=sum(f.rejected for f in parts),
            rejected_sha256=checksums.get(split),
            **sizes,
        )
        splits[split] = joined(before.get(split), new, len(retried.get(split, ())), split in rejected_tasks, **sizes)
        listed = manifest.splits[split].num_images if split in manifest.splits else 0
        if split in before:
            listed += before[split].listed - len(retried[split])
        if splits[split].listed != listed:
            raise RuntimeError(f"split {split}: {listed} listed but {splits[split].listed} accounted for")
    return splits


def results_of(
    tasks: dict[tuple[str, int], Any], rejected_tasks: dict[str, Any], on_progress: Progress
) -> tuple[dict[tuple[str, int], WrittenShard], dict[str, str]]:
    """(what each shard's task gave, the checksum of each split's rejects)."""
    place_of = {reference: place for place, reference in tasks.items()}
    made: dict[tuple[str, int], WrittenShard] = {}
    waiting = list(place_of)
    try:
        while waiting:
            # many at once: a call looks at all that are waited for
            ready, waiting = ray.wait(waiting, num_returns=min(len(waiting), READY_TOGETHER), timeout=LOOK_S)
            for reference in ready:
                made[place_of[reference]] = ray.get(reference)
            on_progress("join", len(made), len(tasks), "shards")
        return made, {split: ray.get(reference) for split, reference in rejected_tasks.items()}
    except ray.exceptions.RayError as error:
        raise user_error(error) or error from error


def class_names_of(manifest: Manifest, base: DatasetInfo | None) -> list[str] | None:
    """The classes of both; those of the manifest begin with those of the base."""
    return manifest.class_names if base is None or manifest.class_names is not None else base.class_names


def kept_rejects(output: Folder, split: str, retried: set[str]) -> pa.Table:
    """The rejects of a finished dataset that stay: those that are not tried again."""
    table = TokenDataset(output).rejected(split)
    return table.filter(pc.invert(pc.is_in(table["key"], pa.array(sorted(retried), pa.string()))))


def next_rejected_name(before: Split | None) -> str:
    """The file of a split's rejects: another with each append, so that the old marker holds till the new one stands."""
    if before is None:
        return "rejected.parquet"
    number = re.search(r"-(\d+)\.parquet$", before.rejected_name)
    return f"rejected-{int(number[1]) + 1 if number else 1:05}.parquet"


def joined(
    before: Split | None, new: Split, retried: int, has_rejects_written: bool, *, num_codes: int, num_classes: int
) -> Split:
    """A split of the dataset and what was added to it, as one; classes that came count 0 before."""
    if before is None:
        return new
    labels = [*before.label_counts, *[0] * (num_classes - len(before.label_counts))]
    rejected = before.rejected - retried + new.rejected
    rows = before.rows + new.rows
    kept = (before.rejected_name, before.rejected_sha256)
    name, sha256 = (next_rejected_name(before), new.rejected_sha256) if has_rejects_written else kept
    return Split(
        listed=rows + rejected,
        rows=rows,
        rejected=rejected,
        source_bytes=before.source_bytes + new.source_bytes,
        shards=[*before.shards, *new.shards],
        rejected_sha256=sha256 if rejected else None,
        code_histogram=[a + b for a, b in zip(before.code_histogram, new.code_histogram, strict=True)],
        label_counts=[a + b for a, b in zip(labels, new.label_counts, strict=True)],
        rejected_name=name,
    )


def commit(
    output: Folder,
    plan: dict[str, Any],
    manifest: Manifest,
    splits: dict[str, Split],
    tokenizer: Tokenizer,
    about: dict[str, Any],
    base: DatasetInfo | None,
    *,
    before_marker: Callable[[], None],
) -> DatasetInfo:
    """Store the tokenizer and what the dataset was made of, and write the marker last, if `before_marker` lets it."""
    digest, source = manifest.digest, {}
    if base is None:
        save_tokenizer(tokenizer, output.join("tokenizer"), about["report"])
        nearest = nearest_codes(tokenizer.codebook, min(NUM_SYNONYMS, len(tokenizer.codebook) - 1), tokenizer.metric)
        write_synonyms(output, nearest)
    else:
        digest = hashlib.sha256(f"{base.plan['manifest']} {digest}".encode()).hexdigest()
        source = base.source
    note_names(output, "source", names_to_write(manifest, source))
    info = DatasetInfo(
        tokenizer=about["fingerprint"],
        family=tokenizer.family,
        image_size=tokenizer.image_size,
        grid=tokenizer.grid,
        codebook_size=len(tokenizer.codebook),
        encoding=plan["encoding"],
        class_names=class_names_of(manifest, base),
        splits=splits,
        plan={**plan, "manifest": digest},
        versions={"python": platform.python_version(), "pyarrow": pa.__version__, "torch": torch.__version__},
        source={**source, **write_known(manifest, output, source)},
        left_out=manifest.left_out,
        notes=manifest.notes,
    )
    before_marker()
    output.write(MARKER, info.to_json())
    return info


def names_of(info: DatasetInfo) -> set[str]:
    """The files of a finished dataset."""
    known = {MARKER, SYNONYMS, *(f"tokenizer/{name}" for name in ("tokenizer.json", "tokenizer.safetensors"))}
    known |= set(info.source)
    for name, split in info.splits.items():
        known |= {f"{name}/{shard.name}" for shard in split.shards}
        known |= {f"{name}/{split.rejected_name}"} if split.rejected else set()
    return known
