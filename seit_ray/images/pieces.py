"""The pieces of a listing as files: whatever is killed, those that are finished are not listed again.

division.json                  how the source is divided, what of, when, and the NAME of its pieces' folder
NAME/begun                     when: who sees this sees the pieces
NAME/slice-00017.parquet       of a source with an inventory: its objects, sorted
NAME/00017/rows-00000.parquet  images of a piece, in order; some FILE_ROWS a file
NAME/00017/maps-00000.parquet  label maps of a piece, in a source of pairs
NAME/00017.json                written last: counts, labels and splits of the piece

NAME is another one whenever the source is divided, so that pieces of another division are never taken for those of
this one, whoever left them or goes on to write them.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.piece_writing import PieceCounts, PieceWriter, maps_name, rows_name
from seit_ray.images.sources.division import COUNTED, MAP, Division, SeenRun, Tally
from seit_ray.images.sources.find import divide, images_of
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder

DIVISION, MARK = "division.json", "begun"
FORMAT = 2
_MARKER = re.compile(r"(\d{5,})\.json")


@dataclass(frozen=True)
class Pieces:
    """The pieces of a source in a folder; cheap to pickle but for what the division holds."""

    division: Division
    folder: Folder
    begun: str | None = None  # when somebody else has divided the source, UTC
    is_sample: bool = False  # not all of them will be read

    @property
    def is_taken_up(self) -> bool:
        """Whether somebody has divided the source before."""
        return self.begun is not None

    @property
    def are_seen(self) -> bool:
        """Whether this machine sees them: a folder on disk may be one of another machine."""
        return self.folder.is_remote or self.folder.exists(MARK)

    @property
    def num(self) -> int:
        """How many there are."""
        return len(self.division.pieces)

    def make(self, number: int, is_enough: Callable[[int], bool] | None = None) -> PieceCounts:
        """List a piece and write it; is_enough: (images of it so far) -> whether to stop there.

        It is asked after each image, or of a whole listing after some.
        """
        tally = Tally()
        settings = self.division.settings
        writer = PieceWriter(self.folder, number, has_masks=settings.has_maps and settings.pairing is None)
        narrows = bool(settings.include or settings.exclude)
        seen = 0
        for image in images_of(self.division, number, tally, by_runs=not self.is_sample):
            if isinstance(image, SeenRun):
                writer.add_run(image)
                seen += len(image.names)
                if is_enough is not None and is_enough(seen):
                    break
                continue
            if image.of_key == MAP:
                writer.add_map(image)
                continue
            writer.add(image)
            seen += not (narrows and image.of_key == COUNTED)  # one of these may be left out yet
            if is_enough is not None and is_enough(seen):
                break
        counts = writer.finish(tally)
        self.folder.write(f"{number:05}.json", json.dumps(counts.as_dict()).encode())
        return counts

    def finished(self) -> dict[int, PieceCounts]:
        """Those that stand."""
        found = [(int(match[1]), e.name) for e in self.folder.list() if (match := _MARKER.fullmatch(e.name))]
        contents = self.folder.read_many([name for _, name in found])
        standing = {}
        for (number, _), content in zip(found, contents, strict=True):
            if isinstance(content, Exception):
                raise content
            standing[number] = PieceCounts.of_dict(json.loads(content))
        return standing

    def tables(self, number: int, counts: PieceCounts, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The rows of a piece, a file at a time."""
        for file in range(counts.num_files):
            yield self._table(rows_name(number, file), columns)

    def maps(self, number: int, counts: PieceCounts) -> Iterator[pa.Table]:
        """The label maps of a piece, see `map_rows`, a file at a time."""
        for file in range(counts.num_map_files):
            yield self._table(maps_name(number, file))

    def _table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        return pq.ParquetFile(pa.BufferReader(self.folder.read(name))).read(columns, use_threads=False)


def pieces_in(folder: Folder, source: Folder, settings: SourceSettings, *, is_sample: bool = False) -> Pieces:
    """The pieces of a source in a folder of their own, divided now, or as they were when the folder was begun."""
    if is_sample:
        return Pieces(divide(source, settings, is_sample=True), folder, is_sample=True)
    standing = standing_in(folder, source, settings)
    if standing is not None:
        return standing
    begun, name = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", uuid.uuid4().hex
    division = divide(source, settings, folder.join(name))
    standing = standing_in(folder, source, settings)
    if standing is not None:  # another job has divided it meanwhile
        folder.join(name).delete_tree()
        return standing
    found = Pieces(replace(division, kept=folder.join(name)), folder.join(name))
    found.folder.write(MARK, begun.encode())
    if division.head is not None:  # it is in memory: nobody lists it again
        found.make(0)
    values = {"name": name, "begun": begun, "division": division.as_dict()}
    folder.write(DIVISION, json.dumps(values).encode())
    return found


def standing_in(folder: Folder, source: Folder, settings: SourceSettings) -> Pieces | None:
    """The pieces that somebody has begun in a folder; None where nobody has."""
    if not folder.exists(DIVISION):
        return None
    values = json.loads(folder.read(DIVISION))
    kept = folder.join(values["name"])
    return Pieces(Division.of_dict(values["division"], source, settings, kept), kept, values["begun"])


def place_of(folder: Folder, source: Folder, settings: SourceSettings) -> Folder:
    """The folder for the pieces of this source with these settings, among those of others.

    The source is told by its uri and by the server; files that the settings name, by what they hold now.
    """
    named = [settings.inventory, settings.class_names]
    files = [None if uri is None else source.state_of(uri) for uri in named]
    identity = json.dumps([FORMAT, source.uri, source.server, settings.as_dict(), files], sort_keys=True)
    return folder.join(hashlib.sha256(identity.encode()).hexdigest()[:16])
