"""The parts of predictions as files: a table of each part's images, one of those that were rejected, and a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seit_ray.evaluation.predictions import counts_of, encode_parquet
from seit_ray.shards.parquet import checksum, parquet_table
from seit_ray.shards.parts import Part
from seit_ray.shards.writing import rejected_name
from seit_ray.storage import Folder

READ_TOGETHER = 64  # objects


@dataclass(frozen=True)
class PredictFiles:
    """Where the tables of parts go, and the records of what is finished."""

    tables: Folder
    records: Folder

    def names(self, split: str, index: int) -> tuple[str, str]:
        """The tables of a part, of its predictions and of its rejected images."""
        return f"{split}/part-{index:05}.parquet", f"{split}/{rejected_name(index)}"

    def write(self, split: str, index: int, table: pa.Table, rejected: pa.Table) -> Part:
        """Write those of a part that have rows, its record last."""
        files = []
        for name, rows in zip(self.names(split, index), (table, rejected), strict=True):
            if len(rows):
                data = encode_parquet(rows)
                self.tables.write(name, data)
                files.append({"name": name, "rows": len(rows), "sha256": checksum(data)})
        part = Part(split, index, len(table), len(rejected))
        self.records.write(part.name, json.dumps({"files": files, **counts_of(table)}).encode())
        return part

    def read_records(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """The records of parts, in order."""
        found = []
        for data in read_all(self.records, [part.name for part in parts]):
            found.append(json.loads(data))
        return found


def read_tables(files: PredictFiles, parts: Sequence[Part]) -> Iterator[tuple[pa.Table | None, pa.Table | None]]:
    """(predictions, rejected images) of finished parts, None for none; ValueError when one is damaged."""
    names = [files.names(part.split, part.index) for part in parts]
    wanted = [
        name
        for part, pair in zip(parts, names, strict=True)
        for name, rows in zip(pair, (part.rows, part.rejected), strict=True)
        if rows
    ]
    tables = {}
    for name, data in zip(wanted, read_all(files.tables, wanted), strict=True):
        try:
            tables[name] = parquet_table(data)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{files.tables.uri_of(name)} cannot be read ({' '.join(str(error).split())}); expected a finished "
                "part; delete the work of this output and run again"
            ) from error
    for good, bad in names:
        yield tables.get(good), tables.get(bad)


def read_all(folder: Folder, names: Sequence[str]) -> Iterator[bytes]:
    """The bytes of objects, in order."""
    for start in range(0, len(names), READ_TOGETHER):
        for data in folder.read_many(list(names[start : start + READ_TOGETHER])):
            if isinstance(data, Exception):
                raise data
            yield data
