"""What a finished part of a tokenising job has left, as its record says it, and what all of them add up to."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from seit_ray.shards.marker import RejectFile, Shard, Split
from seit_ray.shards.parquet import checksum
from seit_ray.shards.writing import WrittenShard


@dataclass
class PartRecord:
    """What a part of a tokenising job has left: its files, what they add up to, and where its time went.

    codes, code_counts: int64 [N], those of K that occur and how often; label_counts: int64 [C]; seconds: by what took
    them.
    """

    source: tuple[str, str]  # name and SHA-256 of the file that says what it was made of
    shard: Shard | None = None  # None where all images were rejected
    rejects: RejectFile | None = None
    source_bytes: int = 0
    codes: list[int] = field(default_factory=list)
    code_counts: list[int] = field(default_factory=list)
    label_counts: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0  # of the process
    listing: str = ""  # digest of the manifest that it is a part of
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of each of its files, by name in the dataset

    def add_shard(self, made: WrittenShard) -> None:
        """The shard, and what its rows add up to."""
        codes = np.flatnonzero(made.histogram)
        self.shard, self.source_bytes = made.shard, made.source_bytes
        self.codes, self.code_counts = codes.tolist(), made.histogram[codes].tolist()
        self.label_counts = made.label_counts.tolist()

    @property
    def images(self) -> int:
        """Those of the part."""
        return (self.shard.rows if self.shard else 0) + (self.rejects.rows if self.rejects else 0)


FIELDS = {field.name for field in fields(PartRecord)}


@dataclass
class Spent:
    """What the parts of a job have taken: seconds of their actors by what took them; the most memory of one."""

    images: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0

    def add(self, record: PartRecord) -> None:
        """Of one more part."""
        self.seconds.update(record.seconds)
        self.images += record.images
        self.peak_bytes = max(self.peak_bytes, record.peak_bytes)

    def words(self) -> str:
        """'decode 71 %, encode 22 %, ...', the most first."""
        total = max(sum(self.seconds.values()), 1e-9)
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in ordered)


class Sums:
    """The parts of one split, added up as their records are read: what they write into the marker."""

    def __init__(self, num_codes: int, num_classes: int):
        self.shards: list[Shard] = []
        self.rejects: list[RejectFile] = []
        self.source: dict[str, str] = {}
        self.source_bytes = 0
        self.histogram, self.labels = np.zeros(num_codes, np.int64), np.zeros(num_classes, np.int64)

    def add(self, record: PartRecord) -> None:
        """One more part."""
        self.shards += [record.shard] if record.shard is not None else []
        self.rejects += [record.rejects] if record.rejects is not None else []
        self.source.update([record.source])
        self.source_bytes += record.source_bytes
        self.histogram[np.array(record.codes, np.int64)] += np.array(record.code_counts, np.int64)
        self.labels[: len(record.label_counts)] += np.array(record.label_counts, np.int64)

    def split(self) -> Split:
        """The entry of the marker."""
        rows, rejected = sum(shard.rows for shard in self.shards), sum(file.rows for file in self.rejects)
        return Split(
            listed=rows + rejected,
            rows=rows,
            rejected=rejected,
            source_bytes=self.source_bytes,
            shards=self.shards,
            rejects=self.rejects,
            code_histogram=self.histogram.tolist(),
            label_counts=self.labels.tolist(),
        )


def encode_record(record: PartRecord) -> bytes:
    """JSON and its SHA-256."""
    parts = {name: asdict(file) if (file := getattr(record, name)) else None for name in ("shard", "rejects")}
    data = json.dumps(vars(record) | parts).encode()  # asdict of the whole would copy each count of a code
    return data + b"\n" + checksum(data).encode()


def decode_record(data: bytes) -> PartRecord | None:
    """The inverse of `encode_record`; None for what is damaged, or was written by a version with other fields."""
    content = checked_content(data)
    values = json.loads(content) if content is not None else {}
    if values.keys() != FIELDS:
        return None
    shard, rejects = values.pop("shard"), values.pop("rejects")
    values["source"] = tuple(values["source"])
    return PartRecord(
        shard=Shard(**shard) if shard else None, rejects=RejectFile(**rejects) if rejects else None, **values
    )


def checked_content(data: bytes) -> bytes | None:
    """What stands before the checksum of a record; None when it does not fit."""
    content, _, known = data.rpartition(b"\n")
    return content if checksum(content) == known.decode(errors="replace") else None
