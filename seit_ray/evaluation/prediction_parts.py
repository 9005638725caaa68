"""The parts of predictions as files: a table of each part's images, one of those that were rejected, and a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seit_ray.evaluation.map_predictions import FOLDER as MAPS
from seit_ray.evaluation.predictions import counts_of, encode_parquet
from seit_ray.images.manifest import Manifest
from seit_ray.models.about import weights_mark
from seit_ray.shards.dataset_files import sizes_of
from seit_ray.shards.parquet import checksum, parquet_table
from seit_ray.shards.part_records import checked_content
from seit_ray.shards.parts import Part, finished_part, list_parts
from seit_ray.shards.reading import read_all
from seit_ray.shards.writing import rejected_name
from seit_ray.storage import Folder

READ_TOGETHER = 64  # tables, which may hold probabilities
WORK_FOLDERS = ("manifest", "records", "attempts")  # of a job's work


@dataclass(frozen=True)
class PredictFiles:
    """Where the tables of parts go, and the records of what is finished."""

    tables: Folder
    records: Folder
    listing: str = ""  # digest of the manifest

    def names(self, split: str, index: int) -> tuple[str, str]:
        """The tables of a part, of its predictions and of its rejected images."""
        return f"{split}/part-{index:05}.parquet", f"{split}/{rejected_name(index)}"

    def write(
        self,
        split: str,
        index: int,
        table: pa.Table,
        rejected: pa.Table,
        *,
        counts: dict[str, Any] | None = None,
        more: Sequence[dict[str, Any]] = (),
    ) -> Part:
        """Write those of a part that have rows, its record last; counts: `counts_of` the table by default.

        more: what the record tells of other files of the part, which are written already.
        """
        standing = finished_part(self.records, split, index)  # made by another meanwhile: its files are not replaced
        if standing is not None:
            return standing
        files = [*more]
        for name, rows in zip(self.names(split, index), (table, rejected), strict=True):
            if len(rows):
                data = encode_parquet(rows)
                self.tables.write(name, data)
                files.append({"name": name, "rows": len(rows), "bytes": len(data), "sha256": checksum(data)})
        part = Part(split, index, len(table), len(rejected))
        content = json.dumps({"listing": self.listing, "files": files, **(counts or counts_of(table))}).encode()
        self.records.write(part.name, content + b"\n" + checksum(content).encode())
        return part

    def read_records(self, parts: Sequence[Part]) -> Iterator[dict[str, Any] | None]:
        """The records of parts, in order; None for a damaged one, whose part is to be made again."""
        for data in read_all(self.records, [part.name for part in parts]):
            content = checked_content(data)
            yield None if content is None else json.loads(content)

    def standing(self, manifest: Manifest, splits: Sequence[str]) -> tuple[dict[str, dict[int, Part]], list[Part]]:
        """(finished parts whose files are there and of this listing, the others)."""
        found, done, faulty = list_parts(self.records), dict[str, dict[int, Part]](), []
        for split in splits:
            parts = list(found.get(split, {}).values())
            sizes = sizes_of(self.tables, f"{split}/") if parts else {}
            for part, record in zip(parts, self.read_records(parts), strict=True):
                if record is None:
                    faulty.append(part)
                    continue
                is_there = all(sizes.get(file["name"]) == file["bytes"] for file in record["files"])
                of_it = part.images == manifest.part_images(split, part.index) and record["listing"] == self.listing
                names = {f["name"] for f in record["files"] if not f["name"].startswith(f"{split}/{MAPS}/")}
                if is_there and of_it and names <= {*self.names(split, part.index)}:
                    done.setdefault(split, {})[part.index] = part
                else:
                    faulty.append(part)
        return done, faulty


def check_weights_mark(run: Folder, weights: str, mark: str) -> None:
    """ValueError unless a run has the weights that it had when the job began."""
    if weights_mark(run, weights) != mark:
        raise ValueError(
            f"run {run.uri} has other weights than when the job began; expected the same; wait until it is trained, "
            "and predict again with overwrite=true"
        )


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
    for name, data in zip(wanted, read_all(files.tables, wanted, READ_TOGETHER), strict=True):
        try:
            tables[name] = parquet_table(data)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{files.tables.uri_of(name)} cannot be read ({' '.join(str(error).split())}); expected a finished "
                "part; delete the work of this output and run again"
            ) from error
    for good, bad in names:
        yield tables.get(good), tables.get(bad)


def check_total(total: int, predicted: int, rejected: int) -> None:
    """RuntimeError unless counts add up."""
    if predicted + rejected != total:
        raise RuntimeError(f"{total} images listed but {predicted} predicted and {rejected} rejected")
