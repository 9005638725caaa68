"""A source divided into pieces that can be listed at the same time, and what one of them tells.

The division is a pure function of the source and its settings: whoever makes a piece, and whenever, makes the same.
What a piece cannot know, for it hangs on the others, it leaves open (`Seen`), and `gather` settles it for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

from seit_ray.images.sources.names import one_form
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Entry, Folder

PLAIN, MAY_REPEAT, COUNTED, MAP = range(4)  # what a key is: see Seen
COUNTERS = ("left_out", "files", "size_bytes")
NOT_STORED = ("head", "kept", "settings", "patience_ended")  # of a division


class Seen(NamedTuple):
    """An image as its piece knows it: key, absolute uri, what the source says of it (None: nothing).

    place: of a test or val set, the folder it is in, which decides whether test serves as val; None where that is
    settled. of_key: whether the key is the only one (PLAIN), may come again (MAY_REPEAT), or is the name of numbered
    files, behind which comes a number that counts on over them (COUNTED). MAP is no image: the key is the name of a
    label map, whose image may be of another piece. mask, mask_version: where each image says its own label map.
    """

    key: str
    uri: str
    label: str | int | None
    split: str | None
    size_bytes: int | None = None
    version: str | None = None
    place: str | None = None
    of_key: int = PLAIN
    mask: str | None = None
    mask_version: str | None = None


class SeenRun(NamedTuple):
    """Images that lie beside each other in one folder, none of whose keys may come again.

    names: keys and, behind the uri of the source, addresses; label, split and place as in `Seen`, the same for all.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    versions: Sequence[str | None]
    label: str | int | None
    split: str | None
    place: str | None


class File(NamedTuple):
    """A Parquet file or tar of images: its name, version and split."""

    name: str
    version: str | None
    split: str | None


@dataclass(frozen=True)
class Piece:
    """What is listed together: a stretch of names, some files one after the other, or a slice of a table.

    stretch: behind the first name, up to the second (None: to the end). groups: of Parquet, the first, and the one
    behind the last. span: of CSV, the first byte, the one behind the last, and the lines before it. kept: of an
    inventory, the file in `Division.kept` with these objects.
    """

    stretch: tuple[str, str | None] | None = None
    files: tuple[File, ...] = ()
    groups: tuple[int, int] | None = None
    span: tuple[int, int, int] | None = None
    kept: str | None = None


@dataclass
class Tally:
    """What a piece counts beside its images: files left out by kind; files and bytes of each layout.

    inside, outside: the first folder that is a split, and the first folder or image that is in none.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    size_bytes: Counter[str] = field(default_factory=Counter)
    inside: str | None = None
    outside: str | None = None

    def weigh(self, layout: str, entry: Entry) -> None:
        """Count a file of a layout."""
        self.files[layout] += 1
        self.size_bytes[layout] += max(1, entry.size_bytes)

    def weigh_all(self, layout: str, sizes: Sequence[int]) -> None:
        """Count files of a layout."""
        self.files[layout] += len(sizes)
        self.size_bytes[layout] += sum(sizes) + sizes.count(0)

    def add(self, other: Tally) -> None:
        """Those of the next piece."""
        for name in COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.inside, self.outside = self.inside or other.inside, self.outside or other.outside

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        counts = {name: dict(getattr(self, name)) for name in COUNTERS}
        return {**counts, "inside": self.inside, "outside": self.outside}

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> Tally:
        """What `as_dict` gave."""
        counts = {name: Counter(values[name]) for name in COUNTERS}
        return cls(**counts, inside=values["inside"], outside=values["outside"])


@dataclass(frozen=True)
class Head:
    """What dividing has listed of the first piece: the files that may hold images, and what else was counted."""

    entries: list[Entry]
    tally: Tally


@dataclass(frozen=True)
class Division:
    """The pieces of a source in the order of its images, and what all of them must know.

    folder: what names in it are relative to. weighed: layouts whose files are weighed against each other at the end.
    class_names: of a column of numbers; renamed: name of each label; listed: names of all classes, in order.
    by_path: whether rows are called by the path beside their bytes. columns: of a table, by field. kept: where slices
    of an inventory lie. patience_ended: its files were asked for again and again, so that what stays away while
    others come is at fault itself: see `faults`. head, kept and patience_ended are not stored.
    """

    kind: str
    folder: Folder
    settings: SourceSettings
    pieces: tuple[Piece, ...]
    name: str = ""  # of the table
    chosen: str = ""  # layout of the files
    weighed: tuple[str, ...] = ()
    class_names: list[str] | None = None
    renamed: dict[str, str] | None = None
    listed_classes: list[str] | None = None
    by_path: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    serves: bool = False  # whether cells named test may serve as val
    notes: tuple[str, ...] = ()
    tally: Tally = field(default_factory=Tally)  # of dividing, beside that of the head
    head: Head | None = None
    kept: Folder | None = None
    patience_ended: bool = False

    @cached_property
    def file_names(self) -> frozenset[str]:
        """Of its Parquet files or tars, each in one form."""
        return frozenset(one_form(file.name) for piece in self.pieces for file in piece.files)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without the head, and without settings and folder, which who reads it has."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NOT_STORED}
        pieces = [asdict(piece) for piece in self.pieces]
        return {**kept, "pieces": pieces, "tally": self.tally.as_dict(), "folder": self.folder.uri}

    @classmethod
    def of_dict(cls, values: dict[str, Any], source: Folder, settings: SourceSettings, kept: Folder) -> Division:
        """What `as_dict` gave, of a source."""
        known: dict[str, Any] = {name: tuple(values[name]) for name in ("weighed", "notes")}
        known |= {"pieces": tuple(_piece_of(piece) for piece in values["pieces"])}
        known |= {"tally": Tally.of_dict(values["tally"]), "folder": source.at(values["folder"])}
        return cls(**{**values, **known}, settings=settings, kept=kept)


def _piece_of(values: dict[str, Any]) -> Piece:
    stretch, groups, span = (values[name] for name in ("stretch", "groups", "span"))
    return Piece(
        None if stretch is None else (stretch[0], stretch[1]),
        tuple(File(*file) for file in values["files"]),
        None if groups is None else (groups[0], groups[1]),
        None if span is None else (span[0], span[1], span[2]),
        values["kept"],
    )
