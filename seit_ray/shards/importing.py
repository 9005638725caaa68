"""Published token files in, token dataset out: read, check, write shards, write the marker last.

A rerun keeps the shards that stand, and refuses files that have changed since.

Shapes: N images of a split, L tokens an image, K codes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from seit_ray.progress import Progress, silent
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.making import kept_shard, make_dataset, note_files, note_written, standing_dataset
from seit_ray.shards.marker import MARKER, DatasetInfo, Split
from seit_ray.shards.parquet import META, TokenRows, checksum
from seit_ray.shards.published import iter_tokens, read_labels, read_offsets
from seit_ray.shards.synonyms import write_synonyms
from seit_ray.shards.writing import WrittenShard, split_of, write_shard
from seit_ray.storage import Folder, StorageError, normalise_uri, split_uri
from seit_ray.storage.output import OURS, claim, read_plan
from seit_ray.tokenizers.contract import Tokenizer, fingerprint
from seit_ray.tokenizers.files import save_tokenizer

READ = "read"  # in the plan: uri -> size and version of each file
GONE = [None, None]  # of a file that is not there any more: a finished dataset does not need it


@dataclass(frozen=True)
class SplitFiles:
    """The uris of a split's files: *-token.data.bin.gz, *-token.index.npy.gz, *-label.txt (none: no labels)."""

    data: str
    index: str
    labels: str | None

    def uris(self) -> list[str | None]:
        """The three in full."""
        return [uri and normalise_uri(uri) for uri in (self.data, self.index, self.labels)]


@dataclass(frozen=True)
class ImportJob:
    """One import; the credentials of `output` open the files too."""

    files: dict[str, SplitFiles]
    tokenizer: Tokenizer
    report: dict[str, Any]  # what tokenizer.json tells of how the tokenizer came to be
    synonyms: Tensor | None
    output: Folder
    num_classes: int | None  # one more than the highest label when left out
    rows_per_shard: int
    encoding: str

    def plan(self) -> dict[str, Any]:
        """Whatever decides the dataset's content."""
        synonyms = None if self.synonyms is None else checksum(json.dumps(self.synonyms.tolist()).encode())
        return {
            "files": {name: files.uris() for name, files in self.files.items()},
            READ: {uri: [*self.output.state_of(uri)] for f in self.files.values() for uri in f.uris() if uri},
            "tokenizer": fingerprint(self.tokenizer),
            "synonyms": synonyms,
            "num_classes": self.num_classes,
            "rows_per_shard": self.rows_per_shard,
            "encoding": self.encoding,
        }


class Listed(NamedTuple):
    """What a split's small files say: offsets int64 [N+1], labels int64 [N] or none."""

    offsets: np.ndarray
    labels: np.ndarray | None


def run_import(job: ImportJob, on_progress: Progress = silent) -> DatasetInfo:
    """Write the dataset, unless it stands, and return its info; ValueError names the file that is wrong, and where."""
    plan = job.plan()
    look = functools.partial(existing, job.output, plan)
    finished = standing_dataset(job.output, look)
    if finished is not None:
        on_progress("import", 1, 1, "already complete")
        return finished
    claim(job.output, OURS)
    listed = list_splits(job)  # before anything is written: the output stays free for a mended command
    class_names_of(job, listed)
    return make_dataset(job.output, plan, look, lambda: import_into(job, plan, listed, on_progress), on_progress)


def import_into(job: ImportJob, plan: dict[str, Any], listed: dict[str, Listed], on_progress: Progress) -> DatasetInfo:
    """Write everything but the marker, which is returned."""
    class_names = class_names_of(job, listed)
    splits = {
        name: import_split(job, name, listed[name], plan[READ], len(class_names or []), on_progress)
        for name in job.files
    }
    tokenizer = job.tokenizer
    mark = save_tokenizer(tokenizer, job.output.join("tokenizer"), job.report)
    if job.synonyms is not None:
        write_synonyms(job.output, job.synonyms)
    return DatasetInfo(
        tokenizer=mark,
        family=tokenizer.family,
        image_size=tokenizer.image_size,
        grid=tokenizer.grid,
        codebook_size=len(tokenizer.codebook),
        encoding=job.encoding,
        class_names=class_names,
        splits=splits,
        plan=plan,
        versions={"python": platform.python_version(), "pyarrow": pa.__version__, "torch": torch.__version__},
    )


def existing(output: Folder, plan: dict[str, Any]) -> DatasetInfo | None:
    """The finished dataset of the same plan; None when there is work to do; ValueError when it is of another."""
    info, stored = None, read_plan(output) or plan
    if output.exists(MARKER):
        info = TokenDataset(output).info
        stored = info.plan
    compared = [key for key in plan if key != READ]
    differs = [f"{key} {stored.get(key)!r} (now {plan[key]!r})" for key in compared if stored.get(key) != plan[key]]
    known = stored.get(READ, {})  # none in datasets of older versions
    changed = [uri for uri, now in plan[READ].items() if now != GONE and known.get(uri, now) != now]
    if changed and not differs:
        raise ValueError(
            f"{changed[0]} has changed since {output.uri} was made of it, or begun; expected the same files; import "
            "into another output, or delete that folder"
        )
    if differs:
        raise ValueError(
            f"{output.uri} was made with {', '.join(differs)}; expected the same files and settings; choose another "
            "output, or delete that folder"
        )
    return info


def list_splits(job: ImportJob) -> dict[str, Listed]:
    """Offsets and labels of every split, checked; before a token is read."""
    num_tokens = job.tokenizer.grid[0] * job.tokenizer.grid[1]
    listed = {}
    for name, files in job.files.items():
        with naming(files.index):
            offsets = read_offsets(read_uri(job.output, files.index), num_tokens)
        labels = None
        if files.labels is not None:
            with naming(files.labels):
                labels = read_labels(read_uri(job.output, files.labels), len(offsets) - 1)
        listed[name] = Listed(offsets, labels)
    return listed


def class_names_of(job: ImportJob, listed: dict[str, Listed]) -> list[str] | None:
    """Names "0" to the last class; None without labels; ValueError when a label is above the given number."""
    highest = {name: int(s.labels.max()) for name, s in listed.items() if s.labels is not None and s.labels.size}
    if not highest:
        return None
    num_classes = job.num_classes or max(highest.values()) + 1
    for name, label in highest.items():
        if label >= num_classes:
            raise ValueError(
                f"{job.files[name].labels} has the label {label}; expected below {num_classes}, the number of classes; "
                "raise num_classes"
            )
    return [str(number) for number in range(num_classes)]


def import_split(
    job: ImportJob, name: str, listed: Listed, read: dict[str, list[Any]], num_classes: int, on_progress: Progress
) -> Split:
    """Write a split's shards, one at a time; its entry of the marker. read: size and version of each file, by uri."""
    num_codes, num_images, done = len(job.tokenizer.codebook), len(listed.offsets) - 1, 0
    counts = {"num_codes": num_codes, "num_classes": num_classes}
    made: list[WrittenShard] = []
    note_files(job.output, name, -(-num_images // job.rows_per_shard))
    for tokens in read_tokens(job, name, listed.offsets, read):
        shard = kept_shard(job.output, name, len(made), num_rows=len(tokens), **counts)
        if shard is None:
            rows = TokenRows(tokens, meta_rows(name, listed, done, done + len(tokens)))
            index = len(made)
            shard = write_shard(rows, split=name, index=index, output=job.output, encoding=job.encoding, **counts)
            note_written(job.output, name, index, shard)
        made.append(shard)
        done += len(tokens)
        on_progress(f"import {name}", done, num_images, "images")
    return split_of(made, num_codes=num_codes, num_classes=num_classes)


def read_tokens(job: ImportJob, name: str, offsets: np.ndarray, read: dict[str, list[Any]]) -> Iterator[np.ndarray]:
    """Tokens uint16 [rows_per_shard,L] of a split, shard by shard."""
    uri = job.files[name].data
    folder, file_name = split_uri(uri)
    with naming(uri), job.output.at(folder).open(file_name, read[normalise_uri(uri)][1]) as file:
        yield from iter_tokens(
            file,
            offsets,
            num_tokens=job.tokenizer.grid[0] * job.tokenizer.grid[1],
            num_codes=len(job.tokenizer.codebook),
            num_images=job.rows_per_shard,
        )


def meta_rows(name: str, listed: Listed, start: int, stop: int) -> pa.Table:
    """The columns of META of images start to stop; their source is the blob, so their bytes are those in it."""
    nothing = pa.nulls(stop - start, pa.int32())
    columns = {
        "key": pa.array([f"{name}/{number:07d}" for number in range(start, stop)]),
        "label": nothing if listed.labels is None else pa.array(listed.labels[start:stop], pa.int32()),
        "width": nothing,
        "height": nothing,
        "source_bytes": pa.array(np.diff(listed.offsets[start : stop + 1])),
    }
    return pa.table(columns, pa.schema(META))


def read_uri(folder: Folder, uri: str) -> bytes:
    """All bytes of an object anywhere, with the credentials of a folder."""
    content = folder.read_uris([normalise_uri(uri)])[0]
    if isinstance(content, Exception):
        raise content
    return content


@contextlib.contextmanager
def naming(uri: str) -> Iterator[None]:
    """Puts a file's name in front of what is wrong with it."""
    try:
        yield
    except StorageError:
        raise  # it names the file itself
    except ValueError as error:
        raise ValueError(f"{uri}: {error}") from error
