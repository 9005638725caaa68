"""The listing of a source as files: Parquet parts whose row groups are the slices of work, and a marker.

    manifest.json               written last: counts, class names, digest
    <split>/part-00000.parquet  id, key, uri, label, state; part_slices row groups of slice_size rows

The final label of a class is known only when all records were seen (names are numbered in sorted order), but
the parts are written as they fill, so that memory stays bounded. So they hold a provisional code, numbered
as labels first come, and the marker holds the table from code to label that every read applies.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.parts import SCHEMA, SplitListing, SplitWriter, delete_leftovers, part_name
from seit_ray.images.records import ImageRecord
from seit_ray.storage import Folder

MARKER = "manifest.json"
FORMAT = 2
MAX_LABEL = 1_000_000


@dataclass(frozen=True)
class Manifest:
    """A complete listing; slice i of a split holds its images i * slice_size and on. Cheap to pickle."""

    folder: Folder
    splits: dict[str, SplitListing]
    class_names: list[str] | None
    label_of_code: list[int]
    digest: str
    slice_size: int
    part_slices: int

    def read_slice(self, split: str, index: int) -> pa.Table:
        """id and state int64, key and uri string, label int32 (null: none), [up to slice_size] rows; ids are unique."""
        if not 0 <= index < self._listing(split).num_slices:
            raise ValueError(
                f"slice {index} of split {split!r}; expected 0 to {self._listing(split).num_slices - 1}; "
                "use the manifest that the slices were counted from"
            )
        part, group = divmod(index, self.part_slices)
        return self._read(split, part, [group])

    def sample(self, split: str, num_images: int, seed: int) -> pa.Table:
        """As read_slice: num_images at random, without repeats, in order of id; all when there are fewer."""
        listed = self._listing(split).num_images
        chosen = np.random.default_rng(seed).choice(listed, min(num_images, listed), replace=False)
        parts, rows = np.divmod(np.sort(chosen), self.slice_size * self.part_slices)
        tables = [SCHEMA.empty_table()]
        for part in np.unique(parts).tolist():
            groups, offsets = np.divmod(rows[parts == part], self.slice_size)
            needed, places = np.unique(groups, return_inverse=True)
            table = self._read(split, part, needed.tolist())
            tables.append(table.take(pa.array(places * self.slice_size + offsets)))
        return pa.concat_tables(tables).combine_chunks()

    def part_states(self, split: str) -> Iterator[pa.Table]:
        """key and state of each part of a split, in order."""
        for part in range(-(-self._listing(split).num_slices // self.part_slices)):
            yield self._open(split, part).read(["key", "state"], use_threads=False)

    def _listing(self, split: str) -> SplitListing:
        if split not in self.splits:
            raise ValueError(f"split {split!r} of {self.folder.uri}; expected one of {sorted(self.splits)}; correct it")
        return self.splits[split]

    def _read(self, split: str, part: int, groups: list[int]) -> pa.Table:
        table = self._open(split, part).read_row_groups(groups)
        labels = pa.array(self.label_of_code, pa.int32()).take(table["label"].combine_chunks())
        return table.set_column(SCHEMA.get_field_index("label"), "label", labels)

    def _open(self, split: str, part: int) -> pq.ParquetFile:
        # The whole part, some hundred kB: unlike the bytes of a range, they are compared with their checksum.
        return pq.ParquetFile(io.BytesIO(self.folder.read(part_name(split, part))))


def write_manifest(
    records: Iterable[ImageRecord],
    folder: Folder,
    *,
    val_fraction: float,
    seed: int,
    class_names: Sequence[str] | None = None,
    known_classes: Sequence[str] | None = None,
    slice_size: int = 256,
    part_slices: int = 64,
) -> Manifest:
    """Writes the listing, replacing one that is there; holds one part a split in memory.

    Records without a split go to val when a hash of seed and key, as a fraction, is below val_fraction, else
    to train, whatever their order. class_names, where the source has them, number the labels; else strings
    are numbered in sorted order and integers keep their value. known_classes keep their numbers, and new ones
    follow. ValueError for labels that are no classes.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction {val_fraction}; expected 0 or more and less than 1; correct it")
    if slice_size < 1 or part_slices < 1:
        raise ValueError(f"slice_size {slice_size}, part_slices {part_slices}; expected at least 1; correct them")
    folder.delete(MARKER)  # from here to the end, what is there is not complete
    splits: dict[str, SplitWriter] = {}
    codes: dict[str | int, int] = {}
    digest = hashlib.sha256()
    for number, record in enumerate(records):
        split = split_of_record(record, val_fraction=val_fraction, seed=seed)
        if split not in splits:
            splits[split] = SplitWriter(folder, split, slice_size, part_slices)
        splits[split].add(number, record, _code_of(record.label, codes))
        seen = [split, record.key, record.label, record.size_bytes]
        digest.update(json.dumps(seen, separators=(",", ":")).encode() + b"\n")
    for writer in splits.values():
        writer.flush()
    labels, given = list(codes), class_names
    if known_classes is not None:
        labels, given = _extended(known_classes, labels, class_names)
    names, label_of_code = _final_labels(labels, given)
    if class_names is not None:
        digest.update(json.dumps(names).encode())
    listings = {name: splits[name].listing() for name in sorted(splits)}
    delete_leftovers(folder, splits.values())
    manifest = Manifest(folder, listings, names, label_of_code, digest.hexdigest(), slice_size, part_slices)
    about = {**asdict(manifest), "format": FORMAT}
    del about["folder"]  # the folder may be moved
    folder.write(MARKER, json.dumps(about, indent=1, sort_keys=True).encode())
    return manifest


def load_manifest(folder: Folder) -> Manifest | None:
    """The listing in folder; None when there is no complete one; ValueError when its marker is damaged."""
    if not folder.exists(MARKER):
        return None
    content = folder.read(MARKER)
    try:
        about = json.loads(content)
        if about.pop("format") != FORMAT:
            raise ValueError("another format")
        splits = {name: SplitListing(**counts) for name, counts in about.pop("splits").items()}
        return Manifest(folder=folder, splits=splits, **about)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"manifest {folder.uri_of(MARKER)} cannot be read ({error}); expected format {FORMAT}; "
            "delete it, to list the source again"
        ) from error


def chosen_splits(manifest: Manifest, split: str | None, uri: str) -> list[str]:
    """One split, or all; ValueError for one that the source has not."""
    if split is not None and split not in manifest.splits:
        raise ValueError(f"split {split!r} of {uri}; expected one of {sorted(manifest.splits)}; correct it or drop it")
    return sorted(manifest.splits) if split is None else [split]


def _extended(
    known: Sequence[str], labels: list[str | int], class_names: Sequence[str] | None
) -> tuple[list[str | int], Sequence[str]]:
    """(labels, class names) of images that come to others whose classes are known: new names follow those."""
    if class_names is not None:
        if list(class_names[: len(known)]) != list(known):
            raise ValueError(
                f"class names {list(class_names)}; expected those of before first, {list(known)}; choose a new output"
            )
        return labels, class_names
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels) and list(known) == [str(i) for i in range(len(known))]:
        last = min(max(numbers, default=0), MAX_LABEL)
        return labels, [*known, *map(str, range(len(known), last + 1))]
    names = [str(label) for label in labels]
    return list(names), [*known, *sorted(set(names) - set(known))]


def split_of_record(record: ImageRecord, *, val_fraction: float, seed: int) -> str:
    """The split that an image goes to: its own; else by a hash of seed and key, whatever the other images."""
    if record.split:
        return record.split
    number = int.from_bytes(hashlib.blake2b(f"{seed}:{record.key}".encode(), digest_size=8).digest())
    return "val" if number / 2**64 < val_fraction else "train"


def _code_of(label: str | int | None, codes: dict[str | int, int]) -> int | None:
    if label is None:
        return None
    if len(codes) > MAX_LABEL and label not in codes:
        raise ValueError(f"labels with more than {MAX_LABEL} different values; expected classes; set label_column")
    return codes.setdefault(label, len(codes))


def _final_labels(
    values: Sequence[str | int], class_names: Sequence[str] | None
) -> tuple[list[str] | None, list[int]]:
    """(class names, label of each code) for the distinct labels in the order of their codes."""
    if not values:
        return None, []
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) == len(values):
        last = MAX_LABEL if class_names is None else len(class_names) - 1
        for value in (min(numbers), max(numbers)):
            if not 0 <= value <= last:
                raise ValueError(f"label {value}; expected 0 to {last}; number the classes from 0, or give names")
        return list(class_names or map(str, range(max(numbers) + 1))), numbers
    # Integers among strings are names too: a CSV file does not say which it means.
    texts = [str(value) for value in values]
    names = list(class_names or sorted(set(texts)))
    number_of = {name: number for number, name in enumerate(names)}
    for text in texts:
        if text not in number_of:
            raise ValueError(f"label {text!r}; expected one of {len(names)} class names; add it to them")
    return names, [number_of[text] for text in texts]
