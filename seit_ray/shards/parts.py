"""Parts: what a job has finished, a record of each, whose name carries its counts.

Names are <split>/<part>.<rows>.<rejected>.json, so that a listing alone says what is done. A part of a tokenising
job is a shard: its files lie in the dataset, and its record is written behind them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa

from seit_ray.images.known import known_file, known_name
from seit_ray.progress import Times
from seit_ray.shards.dataset import RejectFile, Shard
from seit_ray.shards.parquet import TokenRows, checksum
from seit_ray.shards.writing import WrittenShard, rejected_name, shard_name, write_rejects, write_shard
from seit_ray.storage import Folder

READ_TOGETHER = 256  # records


@dataclass(frozen=True)
class Part:
    """One finished part: its images are rows or rejected."""

    split: str
    index: int
    rows: int
    rejected: int

    @property
    def name(self) -> str:
        """Path inside the folder of the parts."""
        return f"{self.split}/{self.index:06d}.{self.rows}.{self.rejected}.json"

    @property
    def images(self) -> int:
        """All of them."""
        return self.rows + self.rejected

    @classmethod
    def named(cls, name: str) -> Part | None:
        """The part of such a path; None for any other."""
        split, _, file = name.rpartition("/")
        index, rows, rejected, suffix, *more = (*file.split("."), "", "", "")
        if any(more) or suffix != "json" or not all(number.isdigit() for number in (index, rows, rejected)):
            return None
        return cls(split, int(index), int(rows), int(rejected))


def list_parts(folder: Folder) -> dict[str, dict[int, Part]]:
    """Finished parts by split and number; empty files, which a power cut may leave, do not count."""
    found: dict[str, dict[int, Part]] = {}
    for entry in folder.list():
        part = Part.named(entry.name)
        if part is not None and entry.size_bytes:
            found.setdefault(part.split, {})[part.index] = part
    return found


@dataclass
class PartRecord:
    """What a part of a tokenising job has left: its files, what they add up to, and where its time went.

    histogram int64 [K] as (code, count) of the codes that occur; label_counts int64 [C]; seconds by what took them.
    """

    source: tuple[str, str]  # name and SHA-256 of the file that says what it was made of
    shard: Shard | None = None  # None where all images were rejected
    rejects: RejectFile | None = None
    source_bytes: int = 0
    histogram: list[tuple[int, int]] = field(default_factory=list)
    label_counts: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0  # of the process

    def written(self, num_codes: int, num_classes: int) -> WrittenShard | None:
        """The shard as `split_of` takes it."""
        if self.shard is None:
            return None
        histogram, labels = np.zeros(num_codes, np.int64), np.zeros(num_classes, np.int64)
        codes, counts = np.array(self.histogram, np.int64).reshape(-1, 2).T
        histogram[codes] = counts
        labels[: len(self.label_counts)] = self.label_counts
        return WrittenShard(self.shard, histogram, labels, self.source_bytes)


@dataclass(frozen=True)
class Spent:
    """What the parts of a job have taken: seconds of their actors by what took them; the most memory of one."""

    parts: int
    images: int
    seconds: dict[str, float]
    peak_bytes: int

    @classmethod
    def of(cls, records: Sequence[PartRecord]) -> Spent:
        """All of them together."""
        seconds: Counter[str] = Counter()
        images = 0
        for record in records:
            seconds.update(record.seconds)
            images += (record.shard.rows if record.shard else 0) + (record.rejects.rows if record.rejects else 0)
        return cls(len(records), images, dict(seconds), max((record.peak_bytes for record in records), default=0))

    def words(self) -> str:
        """'decode 71 %, encode 22 %, ...', the most first."""
        total = max(sum(self.seconds.values()), 1e-9)
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in ordered)


@dataclass(frozen=True)
class PartFiles:
    """Where the files of a job's parts go, and how they are written."""

    output: Folder
    records: Folder
    encoding: str
    num_codes: int
    num_classes: int
    first: dict[str, int]  # split -> number of its first new shard

    def names(self, split: str, index: int) -> list[str]:
        """All files that part number `index` of a split may leave in the dataset."""
        number = self.first.get(split, 0) + index
        return [f"{split}/{shard_name(number)}", f"{split}/{rejected_name(number)}", known_name(split, number)]

    def write(
        self,
        split: str,
        index: int,
        rows: TokenRows,
        rejected: pa.Table,
        listed: pa.Table,
        *,
        times: Times,
        peak_bytes: int,
    ) -> Part:
        """Write a part: rows and rejects (key, reason) of the images `listed` (key, state); the record last."""
        number = self.first.get(split, 0) + index
        known = known_file(listed)
        self.output.write(known_name(split, number), known)
        record = PartRecord((known_name(split, number), checksum(known)), peak_bytes=peak_bytes)
        if len(rejected):
            record.rejects = write_rejects(rejected, split, rejected_name(number), self.output)
        if len(rows):
            made = write_shard(
                rows,
                split=split,
                index=number,
                output=self.output,
                encoding=self.encoding,
                num_codes=self.num_codes,
                num_classes=self.num_classes,
            )
            codes = np.flatnonzero(made.histogram)
            record.shard, record.source_bytes = made.shard, made.source_bytes
            record.histogram = list(zip(codes.tolist(), made.histogram[codes].tolist(), strict=True))
            record.label_counts = made.label_counts.tolist()
        times.add("write")
        record.seconds = times.seconds
        part = Part(split, index, len(rows), len(rejected))
        self.records.write(part.name, encode_record(record))
        return part


def encode_record(record: PartRecord) -> bytes:
    """JSON and its SHA-256."""
    data = json.dumps(asdict(record)).encode()
    return data + b"\n" + checksum(data).encode()


def read_records(folder: Folder, parts: Sequence[Part]) -> list[PartRecord]:
    """The records of finished parts, in order; ValueError when one is damaged."""
    found = []
    for start in range(0, len(parts), READ_TOGETHER):
        some = parts[start : start + READ_TOGETHER]
        for part, data in zip(some, folder.read_many([p.name for p in some]), strict=True):
            if isinstance(data, Exception):
                raise data
            found.append(decode_record(data, folder.uri_of(part.name)))
    return found


def decode_record(data: bytes, uri: str) -> PartRecord:
    """The inverse of `encode_record`."""
    content, _, known = data.rpartition(b"\n")
    if checksum(content) != known.decode(errors="replace"):
        raise ValueError(f"{uri} has a wrong checksum; expected it as it was written; delete it and run again")
    values = json.loads(content)
    shard, rejects = values.pop("shard"), values.pop("rejects")
    values["source"] = tuple(values["source"])
    return PartRecord(
        shard=Shard(**shard) if shard else None, rejects=RejectFile(**rejects) if rejects else None, **values
    )
