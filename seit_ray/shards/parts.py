"""Parts: what a job has finished, a record of each, whose name carries its counts.

Names are <split>/<part>.<rows>.<rejected>.json, so that a listing alone says what is done. A part of a tokenising
job is a shard: its files lie in the dataset, and its record is written behind them: see `part_records`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from seit_ray.images.known import known_file, known_name
from seit_ray.progress import Times
from seit_ray.shards.parquet import TokenRows, checksum
from seit_ray.shards.part_records import PartRecord, decode_record, encode_record
from seit_ray.shards.reading import read_all
from seit_ray.shards.writing import rejected_name, shard_name, write_rejects, write_shard
from seit_ray.storage import Entry, Folder


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


def list_parts(folder: Folder, prefix: str = "") -> dict[str, dict[int, Part]]:
    """Finished parts by split and number.

    Empty files, which a power cut may leave, do not count, nor do two records of one part that differ: of two processes
    that made it, nobody knows whose files stand.
    """
    found: dict[str, dict[int, Part]] = {}
    for part, _ in list_records(folder, prefix):
        found.setdefault(part.split, {})[part.index] = part
    return found


def list_records(folder: Folder, prefix: str = "") -> list[tuple[Part, Entry]]:
    """Finished parts, as `list_parts` counts them, each with what the listing tells of its record."""
    return [records[0] for records in records_by_part(folder, prefix).values() if len(records) == 1]


def records_by_part(folder: Folder, prefix: str = "") -> dict[tuple[str, int], list[tuple[Part, Entry]]]:
    """(split, number) -> what the records say that stand of it."""
    found: dict[tuple[str, int], list[tuple[Part, Entry]]] = {}
    for entry in folder.list(prefix):
        part = Part.named(entry.name)
        if part is not None and entry.size_bytes:
            found.setdefault((part.split, part.index), []).append((part, entry))
    return found


def remove_doubles(folder: Folder) -> None:
    """Remove the records of parts that have more than one, so that these are made again."""
    for records in records_by_part(folder).values():
        for part, _ in records if len(records) > 1 else ():
            folder.delete(part.name)


def finished_part(folder: Folder, split: str, index: int) -> Part | None:
    """A part that stands; None for one that is to be made."""
    return list_parts(folder, f"{split}/{index:06d}.").get(split, {}).get(index)


def read_records(folder: Folder, parts: Sequence[Part]) -> Iterator[PartRecord | None]:
    """The records of finished parts, in order; None for a damaged one, whose part is to be made again."""
    yield from map(decode_record, read_all(folder, [part.name for part in parts]))


@dataclass(frozen=True)
class PartFiles:
    """Where the files of a job's parts go, and how they are written."""

    output: Folder
    records: Folder
    encoding: str
    num_codes: int
    num_classes: int
    first: dict[str, int]  # split -> number of its first new shard
    listing: str = ""  # digest of the manifest

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
        standing = finished_part(self.records, split, index)  # made by another meanwhile: its files are not replaced
        if standing is not None:
            return standing
        number = self.first.get(split, 0) + index
        known = known_file(listed)
        self.output.write(known_name(split, number), known)
        sizes = {known_name(split, number): len(known)}
        record = PartRecord((known_name(split, number), checksum(known)), peak_bytes=peak_bytes, listing=self.listing)
        if len(rejected):
            record.rejects = write_rejects(rejected, split, rejected_name(number), self.output)
            sizes[f"{split}/{rejected_name(number)}"] = record.rejects.bytes
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
            sizes[f"{split}/{made.shard.name}"] = made.shard.bytes
            record.add_shard(made)
        times.add("write")
        record.seconds, record.sizes = times.seconds, sizes
        part = Part(split, index, len(rows), len(rejected))
        self.records.write(part.name, encode_record(record))
        return part
