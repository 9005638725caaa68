"""The listing of a source as files, read in parts: the units of work, of as many images as a shard will have rows.

    manifest.json               written last: counts, class names, digest
    <split>/rows-00000.parquet  id, key, uri, label, version, size_bytes, and in a source of pairs mask_uri and
                                mask_version; in row groups, parts one after the other

Rows a part are a function of the number of images alone, so that any cluster makes the same shards. The final label of
a class is known only when all images were seen (names are numbered in sorted order), but the files are written as they
fill, so that memory stays bounded. So they hold a provisional code, numbered as labels first come, and the marker holds
the tables from code to label, and to what the source calls it, that every read applies. `manifest_writing` writes it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.label_maps import MAPS, MapLabels
from seit_ray.images.manifest_files import SplitListing, file_name, schema_of
from seit_ray.images.rows import states_of
from seit_ray.storage import Folder

MARKER = "manifest.json"
FORMAT = 5
WHITE = "white_level"
PART_COLUMNS = ["id", "key", "uri", "label", "state", "version", "size_bytes"]  # of `Manifest.read_part`


@dataclass(frozen=True)
class Manifest:
    """A complete listing; part i of a split holds its images i * rows_per_part and on. Cheap to pickle.

    left_out: files that were seen and not listed, by kind; notes: what a person should look at before any work.
    """

    folder: Folder
    splits: dict[str, SplitListing]
    class_names: list[str] | None
    label_of_code: list[int]
    value_of_code: list[str | int]  # as the source has it
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

    def keys_digest(self, split: str) -> str:
        """SHA-256 of keys and sizes of a split's images, in order: the same images at any address have the same."""
        digest = hashlib.sha256()
        for index in range(self._listing(split).num_parts):
            rows = self.read_part(split, index).select(["key", "size_bytes"]).to_pylist()
            digest.update("".join(f"{row['key']} {row['size_bytes']}\n" for row in rows).encode())
        return digest.hexdigest()

    def read_part(self, split: str, index: int) -> pa.Table:
        """id, state and size_bytes int64, key, uri, version string, label int32 (null: none), [up to rows_per_part].

        In a source of pairs mask_uri and mask_version string too. ids are unique; the version is that of the file the
        image is in; version, size: null where nothing tells. The state is another one when the image or its map is
        overwritten, when it is labelled anew or moved to another split.
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
        each = group_rows(file)
        groups = list(range(first // each, last // each + 1))
        rows = file.read_row_groups(groups, use_threads=False)
        return self._finished(split, rows.slice(first - groups[0] * each, last + 1 - first))

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
            file = self._open(split, number)
            groups, offsets = np.divmod(rows[files == number], group_rows(file))
            needed, places = np.unique(groups, return_inverse=True)
            table = file.read_row_groups(needed.tolist(), use_threads=False)
            tables.append(table.take(pa.array(places * group_rows(file) + offsets)))
        return self._finished(split, pa.concat_tables(tables))

    def keys(self, split: str) -> Iterator[pa.Array]:
        """The keys of all images of a split, some thousand at a time, in order."""
        for number in range(-(-self._listing(split).num_images // self.rows_per_file)):
            yield self._open(split, number).read(["key"], use_threads=False)["key"].combine_chunks()

    def labels(self, split: str) -> Iterator[pa.Array]:
        """Labels int32, null for none, of all images of a split, some thousand at a time, in order."""
        for number in range(-(-self._listing(split).num_images // self.rows_per_file)):
            codes = self._open(split, number).read(["label"], use_threads=False)["label"].combine_chunks()
            yield self._labels(codes)

    def _listing(self, split: str) -> SplitListing:
        if split not in self.splits:
            raise ValueError(f"split {split!r} of {self.folder.uri}; expected one of {sorted(self.splits)}; correct it")
        return self.splits[split]

    def _labels(self, codes: pa.Int32Array) -> pa.Int32Array:
        return pa.array(self.label_of_code, pa.int32()).take(codes)

    def _finished(self, split: str, table: pa.Table) -> pa.Table:
        rows = table.combine_chunks()
        names = ("size_bytes", "version", *(() if self.void is None else ("mask_uri", "mask_version")))
        codes, *decisive = (rows[name].combine_chunks() for name in ("label", *names))
        states = states_of(split, codes.fill_null(-1).to_numpy(), self.value_of_code, *decisive)
        rows = rows.set_column(rows.schema.get_field_index("label"), "label", self._labels(codes))
        return self._marked(rows.add_column(rows.schema.get_field_index("version"), "state", pa.array(states)))

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


def group_rows(file: pq.ParquetFile) -> int:
    """Rows a row group, but for the last one."""
    return file.metadata.row_group(0).num_rows


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


def chosen_splits(manifest: Manifest, split: str | None, uri: str) -> list[str]:
    """One split, or all; ValueError for one that the source has not."""
    if split is not None and split not in manifest.splits:
        raise ValueError(f"split {split!r} of {uri}; expected one of {sorted(manifest.splits)}; correct it or drop it")
    return sorted(manifest.splits) if split is None else [split]


def check_train(manifest: Manifest, uri: str) -> None:
    """ValueError unless there are images to train or to fit on: those of other splits are held out."""
    train = manifest.splits.get("train")
    if train is None or not train.num_images:
        found = ", ".join(sorted(manifest.splits)) or "no images"
        raise ValueError(
            f"{uri} has no train split but {found}; expected one; name its folder train, or set "
            "source.find_splits=false, where these names are no splits"
        )
