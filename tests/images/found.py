"""Images that a source has, one by one, and manifests of some that are made up.

The program lists by `list_images`, whole tables at a time; a record an image is what tests can compare.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from seit_ray.images.label_maps import MapLabels
from seit_ray.images.listing import begin_shared, shared_folder
from seit_ray.images.manifest_writing import Classes, HoldOut, ManifestWriter
from seit_ray.images.piece_makers import dropped_when_wrong, listed
from seit_ray.images.pieces import Pieces, pieces_in, place_of
from seit_ray.images.rows import FoundRows
from seit_ray.images.sources.find import DEFAULT, class_names_of, divide, map_labels
from seit_ray.storage import Folder


@dataclass(frozen=True)
class ImageRecord:
    """An image that was found: unique key, absolute uri, and what the source says of it (None: nothing).

    repeats: the key that this image has too. mask: absolute uri of its label map, in a source of pairs.
    """

    key: str
    uri: str
    label: str | int | None
    split: str | None
    size_bytes: int | None
    version: str | None = None
    repeats: str | None = None
    mask: str | None = None
    mask_version: str | None = None


@dataclass(frozen=True)
class FoundImages:
    """The images of a source, to be iterated once, and what is told of all of them; left_out: whole at the end."""

    kind: str
    class_names: list[str] | None
    records: object
    left_out: Counter = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    labels: MapLabels | None = None

    def __iter__(self):
        return self.records


def find_images(source, settings=DEFAULT):
    """The images of a source one by one, in order."""
    shared = shared_folder(source, settings) if settings.limit is None else None
    if shared is not None:
        begin_shared(shared)
        place = place_of(shared, source, settings)
        with dropped_when_wrong(place):
            kept = pieces_in(place, source, settings)
    division = kept.division if shared is not None else divide(source, settings, is_sample=settings.limit is not None)
    left_out = Counter()

    def records():
        with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
            with contextlib.nullcontext() if shared is None else dropped_when_wrong(place):
                found = listed(kept if shared is not None else Pieces(division, Folder(name)))
            for rows in found.rows():
                yield from records_of(rows)
            left_out.update(found.left_out)

    names, labels = class_names_of(division), map_labels(division)
    return FoundImages(division.kind, names, records(), left_out, division.notes, labels)


def records_of(rows):
    """Columns one by one."""
    columns = (rows.keys, rows.uris, rows.sizes, rows.versions, rows.plain)
    maps = (pa.nulls(len(rows)) if column is None else column for column in (rows.masks, rows.mask_versions))
    texts = (column.to_pylist() for column in (*columns, *maps))
    values = zip(rows.labels.tolist(), rows.splits.tolist(), *texts, strict=True)
    for label, split, key, uri, size, version, plain, mask, mask_version in values:
        yield ImageRecord(
            key,
            uri,
            None if label < 0 else rows.label_values[label],
            None if split < 0 else rows.split_names[split],
            size,
            version,
            None if plain == key else plain,
            mask,
            mask_version,
        )


def rows_of(records, each=256):
    """Records as columns, some at a time."""
    records = iter(records)
    while some := list(itertools.islice(records, each)):
        yield found_rows(some)


def found_rows(records):
    """Records as columns."""
    labels, splits = {}, {}
    codes = [-1 if r.label is None else labels.setdefault(r.label, len(labels)) for r in records]
    parts = [splits.setdefault(r.split, len(splits)) if r.split else -1 for r in records]
    is_paired = any(r.mask is not None for r in records)
    return FoundRows(
        pa.array([r.key for r in records], pa.string()),
        pa.array([r.repeats or r.key for r in records], pa.string()),
        pa.array([r.uri for r in records], pa.string()),
        pa.array([r.size_bytes for r in records], pa.int64()),
        pa.array([r.version for r in records], pa.string()),
        np.array(codes, np.int32),
        list(labels),
        np.array(parts, np.int32),
        list(splits),
        pa.array([r.mask for r in records], pa.string()) if is_paired else None,
        pa.array([r.mask_version for r in records], pa.string()) if is_paired else None,
    )


def write_manifest(
    records,
    folder,
    *,
    val_fraction,
    seed,
    class_names=None,
    known_classes=None,
    rows_per_part=None,
    map_labels=None,
    **options,
):
    """The manifest of records; options: those of `ManifestWriter.finish`."""
    writer = ManifestWriter(folder, HoldOut(val_fraction, seed), rows_per_part, map_labels)
    for rows in rows_of(records):
        writer.add(rows)
    told = {"left_out": None, "notes": (), "white_level": None, "is_whole": True, **options}
    return writer.finish(Classes(class_names, known_classes), **told)
