"""What the output of a tokenising job tells of it, while it runs, after a kill and when it has finished.

`read_state` alone knows how a job keeps its work: parts, counts and times are in the listing of the records, and only
some of the rejects' reasons are looked up.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from seit_ray.images.manifest import load_manifest
from seit_ray.shards.appending import first_shards
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.dataset_files import sizes_of
from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.shards.parquet import parquet_table
from seit_ray.shards.parts import Part, list_records
from seit_ray.shards.writing import REJECTED, rejected_name
from seit_ray.storage import Folder, StorageError
from seit_ray.storage.lock import LOCK, Holder

PLAN = "plan.json"
LOOK_BYTES, LOOK_TABLES = 16 << 20, 256  # of files that are opened for the reasons of rejects


class Written(NamedTuple):
    """A finished part of the work, and when it was written, in seconds UTC."""

    part: Part
    time: float


@dataclass(frozen=True)
class JobState:
    """A tokenising job. dataset: the finished one, if there is; is_begun: work is there, of an append if there is both.

    listed: split -> (images, parts), None until all are listed; parts: those that stand, each a shard; reasons: of as
    many rejects as were looked up; holder: of the lock.
    """

    uri: str
    dataset: DatasetInfo | None = None
    is_begun: bool = False
    listed: dict[str, tuple[int, int]] | None = None
    parts: tuple[Written, ...] = ()
    reasons: Counter[str] = field(default_factory=Counter)
    holder: Holder | None = None


def read_state(output: Folder) -> JobState:
    """The state of the job that writes to a folder, or has; ValueError for a folder that is none of ours."""
    output.check_readable()
    work, holder = output.join("_work"), read_holder(output)
    plan = read_json(work, PLAN)
    # after the plan: a job that ends writes the marker, and then removes its work
    info = TokenDataset(output).info if output.exists(MARKER) else None
    if plan is None and info is None and holder is None:
        raise ValueError(
            f"{output.uri} is no output of a tokenising job; expected {MARKER} or unfinished work; name another"
        )
    if plan is None or (info is not None and plan.get("appends_to", "") != info.plan.get("manifest")):
        reasons = reasons_of_dataset(output, info) if info is not None else Counter()
        return JobState(output.uri, info, reasons=reasons, holder=holder)
    manifest = load_manifest(work.join("manifest"))
    found = list_records(work.join("records"))
    parts = [Written(part, datetime.fromisoformat(entry.modified).timestamp()) for part, entry in found]
    state = JobState(
        output.uri,
        info,
        is_begun=True,
        listed={name: (s.num_images, s.num_parts) for name, s in manifest.splits.items()} if manifest else None,
        parts=tuple(parts),
        reasons=reasons_of_parts(output, [part for part, _ in parts], info),
        holder=holder,
    )
    return state if work.exists(PLAN) else read_state(output)  # it has ended meanwhile


def read_json(folder: Folder, name: str) -> dict[str, Any] | None:
    """A JSON mapping; None when there is no such file; ValueError when it holds something else."""
    try:
        values = json.loads(folder.read(name))
        if not isinstance(values, dict):
            raise TypeError(f"holds a {type(values).__name__}")
    except StorageError as error:
        if error.kind == "missing":
            return None
        raise
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder.uri_of(name)} cannot be read ({error}); expected what a job wrote") from error
    return values


def read_holder(output: Folder) -> Holder | None:
    """Who holds the lock of an output; None when nobody does."""
    values = read_json(output, LOCK)
    try:
        return None if values is None else Holder(**values)
    except TypeError as error:
        raise ValueError(f"{output.uri_of(LOCK)} cannot be read ({error}); expected the lock of a job") from error


def reasons_of_parts(output: Folder, parts: Sequence[Part], base: DatasetInfo | None) -> Counter[str]:
    """Reasons in the tables of the parts that have most rejects, as far as LOOK_BYTES and LOOK_TABLES go."""
    first = first_shards(base)
    names = [
        f"{part.split}/{rejected_name(first.get(part.split, 0) + part.index)}"
        for part in sorted(parts, key=lambda part: -part.rejected)
        if part.rejected
    ]
    return reasons_in(output, names)


def reasons_of_dataset(output: Folder, info: DatasetInfo) -> Counter[str]:
    """Reasons in the largest tables of a finished dataset's rejects, as far as LOOK_BYTES and LOOK_TABLES go."""
    files = [(name, file) for name, split in info.splits.items() for file in split.rejects]
    files.sort(key=lambda item: -item[1].rows)
    return reasons_in(output, [f"{name}/{file.name}" for name, file in files])


def reasons_in(output: Folder, names: Sequence[str]) -> Counter[str]:
    """Reasons in the first tables of rejects; none in one that is damaged, which the job itself will say."""
    reasons: Counter[str] = Counter()
    splits = {name.partition("/")[0] for name in names}
    sizes = sizes_of(output, *(f"{split}/{REJECTED}" for split in splits))  # one listing, however many there are
    room, chosen = LOOK_BYTES, list[str]()
    for name in names[:LOOK_TABLES]:
        room -= sizes.get(name, 0)
        if room < 0:
            break
        chosen.append(name)
    for data in output.read_many(chosen):
        with contextlib.suppress(pa.ArrowException, OSError, ValueError):
            reasons.update([] if isinstance(data, Exception) else parquet_table(data)["reason"].to_pylist())
    return reasons
