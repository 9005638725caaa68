"""The listing of a source as files, read in parts: the units of work, of as many images as a shard will have rows.

    manifest.json               written last: counts, class names, digest
    <split>/rows-00000.parquet  id, key, uri, label, state, version, size_bytes, and in a source of pairs mask_uri and
                                mask_version; row groups of GROUP_ROWS, parts one after the other

Rows a part are a function of the number of images alone, so that any cluster makes the same shards. The final label of
a class is known only when all records were seen (names are numbered in sorted order), but the files are written as they
fill, so that memory stays bounded. So they hold a provisional code, numbered as labels first come, and the marker holds
the table from code to label that every read applies.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.classes import class_notes, code_of, extended_classes, final_labels
from seit_ray.images.label_maps import MAPS, MapLabels
from seit_ray.images.manifest_files import (
    FILE_ROWS,
    GROUP_ROWS,
    MASKED_SCHEMA,
    SCHEMA,
    SplitListing,
    SplitWriter,
    delete_leftovers,
    file_name,
)
from seit_ray.images.records import ImageRecord, json_of, unusable_reason
from seit_ray.storage import Folder

MARKER = "manifest.json"
FORMAT = 4
LEAST_ROWS, USUAL_PARTS = GROUP_ROWS, 64  # of a part; of all images, where that gives parts of a size between
NAMED = 3  # reasons that a note names
WHITE = "white_level"


@dataclass(frozen=True)
class Manifest:
    """A complete listing; part i of a split holds its images i * rows_per_part and on. Cheap to pickle.

    left_out: files that were seen and not listed, by kind; notes: what a person should look at before any work.
    """

    folder: Folder
    splits: dict[str, SplitListing]
    class_names: list[str] | None
    label_of_code: list[int]
    digest: str
    rows_per_part: int
    rows_per_file: int  # a multiple of it
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    white_level: int | None = None  # of grey images with 16 bits: how they are to be decoded
    void: int | None = None  # of the label maps, in a source of pairs

    @property
    def map_labels(self) -> MapLabels | None:
        """What the values of the label maps mean; None for images without maps."""
        return None if self.void is None else MapLabels(len(self.class_names or []), self.void)

    def read_part(self, split: str, index: int) -> pa.Table:
        """id, state and size_bytes int64, key, uri, version string, label int32 (null: none), [up to rows_per_part].

        In a source of pairs mask_uri and mask_version string too.
        ids are unique; the version is that of the file the image is in; version, size: null where nothing tells.
        """
        if not 0 <= index < self._listing(split).num_parts:
            raise ValueError(
                f"part {index} of split {split!r}; expected 0 to {self._listing(split).num_parts - 1}; "
                "use the manifest that the parts were counted from"
            )
        number, place = divmod(index, self.rows_per_file // self.rows_per_part)
        file = self._open(split, number)
        first = place * self.rows_per_part
        last = min(first + self.rows_per_part, file.metadata.num_rows) - 1
        groups = list(range(first // GROUP_ROWS, last // GROUP_ROWS + 1))
        rows = self._labelled(file.read_row_groups(groups, use_threads=False))
        return self._marked(rows.slice(first - groups[0] * GROUP_ROWS, last + 1 - first).combine_chunks())

    def part_images(self, split: str, index: int) -> int:
        """How many images a part has; 0 for one that the split has not."""
        listed = self.splits[split].num_images if split in self.splits else 0
        return max(0, min(self.rows_per_part, listed - index * self.rows_per_part))

    def sample(self, split: str, num_images: int, seed: int) -> pa.Table:
        """As read_part: num_images at random, without repeats, in order of id; all when there are fewer."""
        listed = self._listing(split).num_images
        chosen = np.random.default_rng(seed).choice(listed, min(num_images, listed), replace=False)
        files, rows = np.divmod(np.sort(chosen), self.rows_per_file)
        tables = [schema_of(self.void).empty_table()]
        for number in np.unique(files).tolist():
            groups, offsets = np.divmod(rows[files == number], GROUP_ROWS)
            needed, places = np.unique(groups, return_inverse=True)
            table = self._labelled(self._open(split, number).read_row_groups(needed.tolist(), use_threads=False))
            tables.append(table.take(pa.array(places * GROUP_ROWS + offsets)))
        return self._marked(pa.concat_tables(tables).combine_chunks())

    def key_states(self, split: str) -> Iterator[pa.Table]:
        """key and state of all images of a split, some thousand at a time, in order."""
        for number in range(-(-self._listing(split).num_images // self.rows_per_file)):
            yield self._open(split, number).read(["key", "state"], use_threads=False)

    def labels(self, split: str) -> Iterator[pa.Array]:
        """Labels int32, null for none, of all images of a split, some thousand at a time, in order."""
        for number in range(-(-self._listing(split).num_images // self.rows_per_file)):
            table = self._open(split, number).read(["label"], use_threads=False)
            yield self._labelled(table)["label"].combine_chunks()

    def _listing(self, split: str) -> SplitListing:
        if split not in self.splits:
            raise ValueError(f"split {split!r} of {self.folder.uri}; expected one of {sorted(self.splits)}; correct it")
        return self.splits[split]

    def _labelled(self, table: pa.Table) -> pa.Table:
        labels = pa.array(self.label_of_code, pa.int32()).take(table["label"].combine_chunks())
        return self._marked(table.set_column(table.schema.get_field_index("label"), "label", labels))

    def _marked(self, table: pa.Table) -> pa.Table:
        """The rows, which say themselves how they are to be decoded, wherever they travel."""
        told = {} if self.white_level is None else {WHITE: str(self.white_level)}
        if self.map_labels is not None:
            told[MAPS] = self.map_labels.words()
        return table.replace_schema_metadata(told) if told else table

    def _open(self, split: str, number: int) -> pq.ParquetFile:
        # The whole file, some hundred kB: unlike the bytes of a range, they are compared with their checksum.
        name = file_name(split, number)
        try:
            return pq.ParquetFile(io.BytesIO(self.folder.read(name)))
        except (pa.ArrowException, FileNotFoundError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{self.folder.uri_of(name)} cannot be read ({reason}); expected a file of the listing; delete "
                f"{self.folder.uri_of(MARKER)}, to list the source again"
            ) from error


def default_part_rows(num_images: int) -> int:
    """Images a part: a power of two that makes some 64 parts, 256 at least and 16,384 at most."""
    return min(FILE_ROWS, max(LEAST_ROWS, 1 << (-(-num_images // USUAL_PARTS) - 1).bit_length()))


def write_manifest(
    records: Iterable[ImageRecord],
    folder: Folder,
    *,
    val_fraction: float,
    seed: int,
    class_names: Sequence[str] | None = None,
    known_classes: Sequence[str] | None = None,
    rows_per_part: int | None = None,
    left_out: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    white_level: int | None = None,
    map_labels: MapLabels | None = None,
    is_whole: Callable[[], bool] = lambda: True,
) -> Manifest:
    """Writes the listing, replacing one that is there; holds one file a split in memory.

    Records without a split go to val when a hash of seed and key, as a fraction, is below val_fraction, else
    to train, whatever their order. class_names, where the source has them, number the labels; else strings
    are numbered in sorted order and integers keep their value. known_classes keep their numbers, and new ones
    follow. rows_per_part: `default_part_rows` when left out. ValueError for labels that are no classes, and for a
    listing of nothing but what cannot be read.
    map_labels: of the label maps that all records have, whose classes class_names are then.
    left_out and notes are read when all records were seen; of a listing that is not whole nothing is said of classes.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction {val_fraction}; expected 0 or more and less than 1; correct it")
    if rows_per_part is not None and rows_per_part < 1:
        raise ValueError(f"rows_per_part {rows_per_part}; expected at least 1; correct it")
    rows_per_file = rows_per_part * max(1, FILE_ROWS // rows_per_part) if rows_per_part else FILE_ROWS
    folder.delete(MARKER)  # from here to the end, what is there is not complete
    void = None if map_labels is None else map_labels.void
    splits: dict[str, SplitWriter] = {}
    codes: dict[str | int, int] = {}
    codes_of: dict[str, set[int]] = {}  # split -> codes of its labels
    unusable: list[str] = []
    num_unusable = 0
    digest = hashlib.sha256()
    for number, record in enumerate(records):
        split = split_of_record(record, val_fraction=val_fraction, seed=seed)
        if split not in splits:
            splits[split] = SplitWriter(folder, split, rows_per_file, schema_of(void))
        code = code_of(record.label, codes)
        splits[split].add(number, record, code)
        if code is not None:
            codes_of.setdefault(split, set()).add(code)
        if (reason := unusable_reason(record.uri)) is not None:
            unusable = [*unusable, reason][:NAMED]
            num_unusable += 1
        label, size = json_of(record.label), json_of(record.size_bytes)
        digest.update(f"[{json_of(split)},{json_of(record.key)},{label},{size}]\n".encode())
        if record.mask is not None:
            digest.update(f"{unusable_reason(record.mask) or ''}\n".encode())
    for writer in splits.values():
        writer.flush()
    labels, given = list(codes), class_names
    if known_classes is not None:
        labels, given = extended_classes(known_classes, labels, class_names)
    names, label_of_code = final_labels(labels, given)
    if map_labels is not None:
        names = list(given or [])
        digest.update(map_labels.words().encode())
    if class_names is not None:
        digest.update(json.dumps(names).encode())
    part_rows = rows_per_part or default_part_rows(sum(writer.num_images for writer in splits.values()))
    listings = {name: splits[name].listing(part_rows) for name in sorted(splits)}
    delete_leftovers(folder, splits.values())
    told = list(notes)
    if num_unusable:
        if num_unusable == sum(listing.num_images for listing in listings.values()):
            raise ValueError(f"nothing that can be read: {unusable[0]}")
        told.append(f"{num_unusable} listed that cannot be read: {'; '.join(unusable)}")
    if names is not None and known_classes is None and is_whole() and map_labels is None:
        classes = {split: {names[label_of_code[code]] for code in found} for split, found in codes_of.items()}
        told += class_notes(classes, "the source")
    manifest = Manifest(
        folder=folder,
        splits=listings,
        class_names=names,
        label_of_code=label_of_code,
        digest=digest.hexdigest(),
        rows_per_part=part_rows,
        rows_per_file=rows_per_file,
        left_out=dict(sorted((left_out or {}).items())),
        notes=told,
        white_level=white_level,
        void=void,
    )
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


def white_level_of(rows: pa.Table) -> int | None:
    """The white level of grey images of 16 bits, for rows of a manifest; None for the usual one."""
    found = (rows.schema.metadata or {}).get(WHITE.encode())
    return None if found is None else int(found)


def schema_of(void: int | None) -> pa.Schema:
    """Columns of a listing's files; void: that of its label maps, None for images without maps."""
    return SCHEMA if void is None else MASKED_SCHEMA


def chosen_splits(manifest: Manifest, split: str | None, uri: str) -> list[str]:
    """One split, or all; ValueError for one that the source has not."""
    if split is not None and split not in manifest.splits:
        raise ValueError(f"split {split!r} of {uri}; expected one of {sorted(manifest.splits)}; correct it or drop it")
    return sorted(manifest.splits) if split is None else [split]


def split_of_record(record: ImageRecord, *, val_fraction: float, seed: int) -> str:
    """The split that an image goes to: its own; else by a hash of seed and key, whatever the other images."""
    if record.split:
        return record.split
    key = record.repeats or record.key  # an image that comes again goes where it is
    number = int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest())
    return "val" if number / 2**64 < val_fraction else "train"
