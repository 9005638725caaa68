"""A token dataset that one process makes in a folder, as an import or a rewriting: begun, continued, ended in one way.

Each shard is written once: a small record behind it says what it holds, so that a call that continues keeps it. What
the marker does not name at the end, and the journal does, goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seit_ray.progress import Progress, silent
from seit_ray.shards.dataset_files import clean_up
from seit_ray.shards.marker import MARKER, DatasetInfo, RejectFile
from seit_ray.shards.part_records import PartRecord, decode_record, encode_record
from seit_ray.shards.writing import WrittenShard, shard_name
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, LockedError, locked, remove_ended
from seit_ray.storage.output import OURS, WORK, claim, note_names, read_plan, write_plan

RECORDS = "records"  # a folder of the work
Look = Callable[[], DatasetInfo | None]  # the finished dataset; None when there is work; ValueError when it is another


def standing_dataset(output: Folder, look: Look) -> DatasetInfo | None:
    """The finished dataset of an output, cleaned up; None when there is work to do; ValueError as `look`."""
    found = look()
    if found is None:
        return None
    if read_plan(output) is None:
        remove_ended(output)
    else:  # a kill between marker and clean-up leaves it
        with contextlib.suppress(LockedError), locked(output, LOCK):  # else the job that made it is at it
            clean_up(output, found, (RECORDS,))
    return found


def make_dataset(
    output: Folder, plan: dict[str, Any], look: Look, make: Callable[[], DatasetInfo], on_progress: Progress = silent
) -> DatasetInfo:
    """Let `make` write everything but the marker, unless `look` finds that all is there; the marker last."""
    claim(output, OURS)
    with locked(output, LOCK, on_note=lambda note: on_progress("lock", 1, 1, note)) as lock:
        found = look()  # again: another job may have finished one meanwhile
        if found is None:
            output.check_writable()
            write_plan(output, plan)
            found = make()
            lock.check()
            output.write(MARKER, found.to_json())
        clean_up(output, found, (RECORDS,))
    return found


def note_files(output: Folder, split: str, num_shards: int, rejects: Sequence[RejectFile] = ()) -> None:
    """Write down, before they are written, the names of a split's shards and tables of rejects."""
    files = [*map(shard_name, range(num_shards)), *(file.name for file in rejects)]
    note_names(output, split, [f"{split}/{file}" for file in files])


def kept_shard(
    output: Folder, split: str, index: int, *, num_rows: int, num_codes: int, num_classes: int
) -> WrittenShard | None:
    """A shard that an earlier call of the same plan has written and noted; None for one that is to be written."""
    records, name = output.join(WORK, RECORDS), record_name(split, index)
    record = decode_record(records.read(name)) if records.size(name) else None
    if record is None or record.shard is None or record.shard.rows != num_rows:
        return None
    if output.size(f"{split}/{record.shard.name}") != record.shard.bytes:
        return None
    histogram, labels = np.zeros(num_codes, np.int64), np.zeros(num_classes, np.int64)
    histogram[np.array(record.codes, np.int64)] = record.code_counts
    labels[: len(record.label_counts)] = record.label_counts
    return WrittenShard(record.shard, histogram, labels, record.source_bytes)


def note_written(output: Folder, split: str, index: int, made: WrittenShard) -> None:
    """Write the record of a shard that is whole."""
    record = PartRecord(("", ""))
    record.add_shard(made)
    output.join(WORK, RECORDS).write(record_name(split, index), encode_record(record))


def record_name(split: str, index: int) -> str:
    """Of a shard, in the folder of the records."""
    return f"{split}/{index:06d}.json"
