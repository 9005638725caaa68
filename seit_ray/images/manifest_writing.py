"""Writes the manifest of a listing, some images at a time; holds one file a split in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seit_ray.images.classes import class_notes, code_of, extended_classes, final_labels
from seit_ray.images.label_maps import MapLabels
from seit_ray.images.manifest import FORMAT, MARKER, Manifest
from seit_ray.images.manifest_files import FILE_ROWS, SplitWriter, delete_leftovers, schema_of
from seit_ray.images.records import unusable, unusable_reason
from seit_ray.images.rows import FoundRows, Unusable, bytes_of, first_places, lengths_of
from seit_ray.storage import Folder

LEAST_ROWS, USUAL_PARTS = 256, 64  # of a part; of all images, where that gives parts of a size between


@dataclass(frozen=True)
class HoldOut:
    """Which images without a split go to val; ValueError for a fraction that is none."""

    val_fraction: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"val_fraction {self.val_fraction}; expected 0 or more and less than 1; correct it")


@dataclass(frozen=True)
class Classes:
    """Names of classes: those of the source, which number its labels, and those that are known from before.

    Where neither is there, strings are numbered in sorted order and integers keep their value. Known ones keep their
    numbers, and new ones follow.
    """

    given: Sequence[str] | None = None
    known: Sequence[str] | None = None


def default_part_rows(num_images: int) -> int:
    """Images a part: a power of two that makes some 64 parts, 256 at least and 16,384 at most."""
    return min(FILE_ROWS, max(LEAST_ROWS, 1 << (-(-num_images // USUAL_PARTS) - 1).bit_length()))


class ManifestWriter:
    """The listing in a folder, in place of one that is there: `add` images in order, then `finish`.

    rows_per_part: `default_part_rows` when None. map_labels: of the label maps that all images have, whose classes are
    those that `finish` is given. ValueError for labels that are no classes.
    """

    def __init__(
        self,
        folder: Folder,
        hold_out: HoldOut,
        rows_per_part: int | None = None,
        map_labels: MapLabels | None = None,
    ):
        if rows_per_part is not None and rows_per_part < 1:
            raise ValueError(f"rows_per_part {rows_per_part}; expected at least 1; correct it")
        self.folder, self.hold_out, self.rows_per_part = folder, hold_out, rows_per_part
        self.rows_per_file = rows_per_part * max(1, FILE_ROWS // rows_per_part) if rows_per_part else FILE_ROWS
        self.map_labels, self.void = map_labels, None if map_labels is None else map_labels.void
        self.splits: dict[str, SplitWriter] = {}
        self.codes: dict[str | int, int] = {}
        self.codes_of: dict[str, set[int]] = {}  # split -> codes of its labels
        self.num_images = 0
        self.unusable, self.without = Unusable(), Unusable()  # images, and label maps of others
        self.digest = _Digest()
        folder.delete(MARKER)  # from here to the end, what is there is not complete

    def held_out(self, found: FoundRows) -> FoundRows:
        """With a split each."""
        return found.held_out(val_fraction=self.hold_out.val_fraction, seed=self.hold_out.seed)

    def add(self, found: FoundRows) -> None:
        """The next images."""
        rows = self.held_out(found)
        codes = self._codes(rows)
        self.digest.add(rows, codes)
        ids = np.arange(self.num_images, self.num_images + len(rows))
        self.num_images += len(rows)
        labels = pa.array(codes, pa.int32(), mask=codes < 0)
        columns = [pa.array(ids), rows.keys, rows.uris, labels, rows.versions, rows.sizes]
        columns += [] if self.map_labels is None else [rows.masks, rows.mask_versions]
        table = pa.table(columns, schema=schema_of(self.void))
        names = {place: rows.split_names[place] for place in first_places(rows.splits).tolist()}
        for name in dict.fromkeys(names.values()):
            if name not in self.splits:
                self.splits[name] = SplitWriter(self.folder, name, self.rows_per_file)
            places = [place for place, other in names.items() if other == name]
            mask = np.isin(rows.splits, places)
            self.splits[name].add(table if mask.all() else table.filter(pa.array(mask)))
            self.codes_of.setdefault(name, set()).update(np.unique(codes[mask & (codes >= 0)]).tolist())
        self._note_unusable(rows)

    def _codes(self, rows: FoundRows) -> np.ndarray:
        """The numbers of the labels, int32 [N], as they first come; -1 for none."""
        table = np.full(len(rows.label_values) + 1, -1, np.int32)  # the last for none
        for place in first_places(rows.labels).tolist():
            code = code_of(rows.label_values[place], self.codes)
            table[place] = -1 if code is None else code
        return table[rows.labels]

    def _note_unusable(self, rows: FoundRows) -> None:
        is_unusable = pc.starts_with(rows.uris, unusable(""))
        self.unusable.add(rows.uris.filter(is_unusable))
        if rows.masks is not None:
            self.without.add(rows.masks.filter(pc.and_not(pc.starts_with(rows.masks, unusable("")), is_unusable)))

    def finish(
        self,
        classes: Classes,
        *,
        left_out: Mapping[str, int] | None = None,
        notes: Sequence[str] = (),
        white_level: int | None = None,
        is_whole: bool = True,
    ) -> Manifest:
        """Write the marker; ValueError for labels that are no classes, and for nothing but what cannot be read.

        Of a listing that is not whole nothing is said of classes.
        """
        for writer in self.splits.values():
            writer.flush()
        labels, given = list(self.codes), classes.given
        if classes.known is not None:
            labels, given = extended_classes(classes.known, labels, given)
        names, label_of_code = final_labels(labels, given)
        if self.map_labels is not None:  # the classes are those of pixels
            names = list(given or [])
        part_rows = self.rows_per_part or default_part_rows(self.num_images)
        told = [*notes, *self._told()]
        if names is not None and classes.known is None and is_whole and self.map_labels is None:
            found = {split: {names[label_of_code[code]] for code in mine} for split, mine in self.codes_of.items()}
            told += class_notes(found, "the source")
        manifest = Manifest(
            folder=self.folder,
            splits={name: self.splits[name].listing(part_rows) for name in sorted(self.splits)},
            class_names=names,
            label_of_code=label_of_code,
            value_of_code=list(self.codes),
            digest=self.digest.hexdigest(
                list(self.codes), names if classes.given is not None else None, self.map_labels
            ),
            rows_per_part=part_rows,
            rows_per_file=self.rows_per_file,
            left_out=dict(sorted((left_out or {}).items())),
            notes=told,
            white_level=white_level,
            void=self.void,
        )
        delete_leftovers(self.folder, self.splits.values())
        about = {**asdict(manifest), "format": FORMAT}
        del about["folder"]  # the folder may be moved
        if self.void is None:  # as listings were before there were maps
            del about["void"]
        self.folder.write(MARKER, json.dumps(about, indent=1, sort_keys=True).encode())
        return manifest

    def _told(self) -> list[str]:
        if self.unusable.number and self.unusable.number == self.num_images:
            raise ValueError(f"nothing that can be read: {self.unusable.first[0]}")
        kinds = (("that cannot be read", self.unusable), ("whose label map cannot be read", self.without))
        return [f"{found.number} listed {what}: {'; '.join(found.first)}" for what, found in kinds if found.number]


@dataclass
class _Digest:
    """Of keys, sizes, labels and splits in their order, however many are added at a time; addresses do not count.

    Of label maps, which are there, and why others are not.
    """

    splits: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = {name: hashlib.sha256() for name in ("keys", "lengths", "sizes", "labels", "splits")}

    def add(self, rows: FoundRows, codes: np.ndarray) -> None:
        """The next ones; codes: of their labels."""
        names = np.full(len(rows.split_names) + 1, -1, np.int32)
        for place in first_places(rows.splits).tolist():
            names[place] = self.splits.setdefault(rows.split_names[place], len(self.splits))
        added = {
            "keys": bytes_of(rows.keys),
            "lengths": lengths_of(rows.keys),
            "sizes": rows.sizes.fill_null(-1).to_numpy().astype("<i8"),
            "labels": codes.astype("<i4"),
            "splits": names[rows.splits].astype("<i4"),
        }
        if rows.masks is not None:
            self.columns.setdefault("masks", hashlib.sha256())
            added["masks"] = "".join(f"{unusable_reason(mask) or ''}\n" for mask in rows.masks.to_pylist()).encode()
        for name, values in added.items():
            self.columns[name].update(values)

    def hexdigest(
        self, labels: list[str | int], class_names: list[str] | None, map_labels: MapLabels | None = None
    ) -> str:
        """Of all."""
        whole = {name: column.hexdigest() for name, column in self.columns.items()}
        told, maps = [whole, list(self.splits), labels, class_names], [] if map_labels is None else [map_labels.words()]
        return hashlib.sha256(json.dumps([*told, *maps]).encode()).hexdigest()
