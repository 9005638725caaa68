"""What the output of a tokenising job tells of it, while it runs, after a kill and when it has finished.

`read_state` alone knows how a job keeps its work: parts, counts and times are in the listing of the fragments, and
only some of the rejects' reasons are looked up.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.manifest import load_manifest
from seit_ray.shards.dataset import MARKER, DatasetInfo, TokenDataset
from seit_ray.storage import Entry, Folder, StorageError
from seit_ray.storage.lock import LOCK, Holder

PLAN = "plan.json"
FRAGMENT = re.compile(r"([^/]+)/\d+\.(\d+)\.(\d+)\.parquet")  # split, rows, rejected
CHECKSUM_BYTES = 32  # behind a fragment's Parquet
LOOK_BYTES = 16 << 20  # of files that are opened for the reasons of rejects


@dataclass(frozen=True)
class Part:
    """A finished part of the work: its counts, and when it was written, in seconds UTC."""

    split: str
    rows: int
    rejected: int
    written: float

    @property
    def images(self) -> int:
        """All of them."""
        return self.rows + self.rejected


@dataclass(frozen=True)
class JobState:
    """A tokenising job. dataset: the finished one, if there is; is_begun: work is there, of an append if there is both.

    listed: split -> (images, parts), None until all are listed; parts, shards: those that stand; reasons: of as many
    rejects as were looked up; holder: of the lock.
    """

    uri: str
    dataset: DatasetInfo | None = None
    is_begun: bool = False
    listed: dict[str, tuple[int, int]] | None = None
    parts: tuple[Part, ...] = ()
    shards: int = 0
    rows_per_shard: int = 1
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
    manifest, fragments = load_manifest(work.join("manifest")), work.join("fragments")
    found = [(entry, FRAGMENT.fullmatch(entry.name)) for entry in fragments.list()]
    whole = [(entry, match) for entry, match in found if match and entry.size_bytes]
    state = JobState(
        output.uri,
        info,
        is_begun=True,
        listed={name: (s.num_images, s.num_slices) for name, s in manifest.splits.items()} if manifest else None,
        parts=tuple(
            Part(match[1], int(match[2]), int(match[3]), datetime.fromisoformat(entry.modified).timestamp())
            for entry, match in whole
        ),
        shards=num_new_shards(output, list(manifest.splits) if manifest else [], info),
        rows_per_shard=plan["rows_per_shard"] if isinstance(plan.get("rows_per_shard"), int) else 1,
        reasons=reasons_of_fragments(fragments, [(int(match[3]), entry) for entry, match in whole]),
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


def num_new_shards(output: Folder, splits: Sequence[str], info: DatasetInfo | None) -> int:
    """Shards that are no part of the finished dataset yet."""
    known = {f"{name}/{shard.name}" for name, s in info.splits.items() for shard in s.shards} if info else set()
    return sum(entry.name not in known for split in splits for entry in output.list(f"{split}/shard-"))


def reasons_of_fragments(folder: Folder, found: Sequence[tuple[int, Entry]]) -> Counter[str]:
    """Reasons in the fragments (rejects, entry) that have most of them, as far as LOOK_BYTES go."""
    names, room = [], LOOK_BYTES
    for rejected, entry in sorted(found, key=lambda pair: -pair[0]):
        room -= entry.size_bytes
        if not rejected or room < 0:
            break
        names.append(entry.name)
    contents = folder.read_many(names)
    return Counter(reason for data in contents if isinstance(data, bytes) for reason in reasons_in(data))


def reasons_in(fragment: bytes) -> list[str]:
    """The reasons of a fragment's rejects; none where it is damaged, which the job itself will say."""
    try:
        table = pq.ParquetFile(pa.BufferReader(fragment[:-CHECKSUM_BYTES])).read(["reason"], use_threads=False)
    except (pa.ArrowException, OSError):
        return []
    return [reason for reason in table["reason"].to_pylist() if reason is not None]


def reasons_of_dataset(output: Folder, info: DatasetInfo) -> Counter[str]:
    """Reasons of a finished dataset's rejects, as far as LOOK_BYTES go."""
    dataset, room = TokenDataset(output), LOOK_BYTES
    reasons: Counter[str] = Counter()
    for name, split in info.splits.items():
        room -= (output.size(f"{name}/{split.rejected_name}") or 0) if split.rejected else 0
        if room >= 0:
            reasons.update(dataset.rejected(name)["reason"].to_pylist())
    return reasons
