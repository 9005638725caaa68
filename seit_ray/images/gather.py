"""From the pieces of a listing to its images: what hangs on several pieces is settled here, in the source's order.

That is: which key comes again, what numbered files count on from, whether a test set serves as val, which label map is
whose, and whether what was found is clear at all. The same for whatever made the pieces, and in whatever order; of the
images some file's rows are in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seit_ray.images.piece_writing import PieceCounts
from seit_ray.images.pieces import Pieces
from seit_ray.images.repeats import NUMBERED, Repeats, is_repeat_of, repeated
from seit_ray.images.rows import FoundRows
from seit_ray.images.sources.division import Division, Tally
from seit_ray.images.sources.find import holds_val
from seit_ray.images.sources.layout import check_weights
from seit_ray.images.sources.maps import LabelMaps, check_any, maps_of, wanted
from seit_ray.images.sources.settings import EXCLUDED
from seit_ray.images.sources.splits import outside_error, served


def check_splits(tally: Tally, uri: str) -> None:
    """ValueError for images beside splits, as soon as both were met."""
    if tally.inside and tally.outside:
        raise outside_error(uri, tally.inside, [tally.outside])


@dataclass
class Gathered:
    """The images of some pieces, the first ones of a source. is_whole: whether these are all that it has.

    left_out counts what was seen and is not listed; it is whole when `rows` was read.
    """

    pieces: Pieces
    counts: Sequence[PieceCounts]
    is_whole: bool
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        division, tally = self.division, Tally()
        tally.add(division.tally)
        for counts in self.counts:
            tally.add(counts.tally)
        if division.weighed and self.is_whole:
            check_weights(tally, division.chosen, division.folder.uri)
        check_splits(tally, division.folder.uri)
        self.left_out.update(tally.left_out)

    @property
    def division(self) -> Division:
        """Of what they are the pieces."""
        return self.pieces.division

    @cached_property
    def serves(self) -> dict[str, str]:
        """Place of a test set -> what it serves as."""
        met = [split for counts in self.counts for split in counts.splits]
        if not any(split == "test" and place is not None for split, place in met):
            met = []
        beyond = partial(holds_val, self.division) if not self.is_whole else lambda place: False
        return served(met, self.division.folder.uri, beyond)

    def rows(self) -> Iterator[FoundRows]:
        """All of them, in order; to be read once."""
        serves, repeats, counted = self.serves, _RepeatedKeys(self.pieces, self.counts), Counter[str]()
        limit, maps = self.division.settings.limit, self._maps()
        for number, counts in enumerate(self.counts):
            splits = [serves[at] if name == "test" and at is not None else name for name, at in counts.splits]
            for table in self.pieces.tables(number, counts):
                found = self._settled(table, counts, splits, repeats, counted)
                if limit is not None:
                    found = found.head(limit)
                    limit -= len(found)
                if len(found):
                    yield found if maps is None else maps.paired(found)
        if maps is not None and self.is_whole:
            self.left_out.update(maps.left_over())

    def _maps(self) -> LabelMaps | None:
        """The label maps of the source, or of these images where they are not all; None where no names pair them."""
        division, pairing = self.division, self.division.settings.pairing
        if pairing is None:
            return None
        numbered = list(enumerate(self.counts))
        if self.is_whole:
            tables = [table for number, counts in numbered for table in self.pieces.maps(number, counts)]
        else:
            root = division.folder.uri_of("x")[:-1]
            rows = (table for number, counts in numbered for table in self.pieces.tables(number, counts, ["uri"]))
            tables = list(maps_of(division, [name for table in rows for name in wanted(table["uri"], root, pairing)]))
        maps = LabelMaps(division.folder, pairing, tables)
        check_any(maps, division, is_whole=self.is_whole)
        return maps

    def _settled(
        self,
        table: pa.Table,
        counts: PieceCounts,
        splits: Sequence[str],
        repeats: _RepeatedKeys,
        counted: Counter[str],
    ) -> FoundRows:
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        plain = columns["key"]
        if columns["counted"].null_count < len(table):
            plain = counted_keys(plain, columns["counted"], counted)
        codes = {name: columns[name].fill_null(-1).to_numpy().astype(np.int32) for name in ("label", "split")}
        found = FoundRows(
            repeats.numbered(plain, columns["hash"]),
            plain,
            self._whole(columns["uri"], plain),
            columns["size_bytes"],
            columns["version"],
            codes["label"],
            counts.labels,
            codes["split"],
            splits,
            *(columns.get(name) for name in ("mask", "mask_version")),
        )
        settings = self.division.settings
        if (settings.include or settings.exclude) and columns["counted"].null_count < len(table):
            taken = np.array([settings.takes(key) for key in plain.to_pylist()])
            self.left_out[EXCLUDED] += int((~taken).sum())
            found = found.filter(taken)
        return found

    def _whole(self, uris: pa.StringArray, keys: pa.StringArray) -> pa.StringArray:
        """The uris with those that are told by the key alone."""
        if not uris.null_count:
            return uris
        root = self.division.folder.uri_of("x")[:-1]
        told = pc.binary_join_element_wise(pa.scalar(root), keys, "")
        return told if uris.null_count == len(uris) else pc.coalesce(uris, told)


def counted_keys(keys: pa.StringArray, is_counted: pa.BooleanArray, counted: Counter[str]) -> pa.StringArray:
    """The keys with a number behind those that are names of numbered files: how many came before of that name."""
    found = keys.to_pylist()
    for row in np.flatnonzero(is_counted.is_valid().to_numpy(zero_copy_only=False)).tolist():
        name = found[row]
        found[row] = f"{name}#{counted[name]}"
        counted[name] += 1
    return pa.array(found, pa.string())


class _RepeatedKeys:
    """Numbers the keys that come again."""

    def __init__(self, pieces: Pieces, counts: Sequence[PieceCounts]):
        number = sum(each.num_hashed for each in counts)
        self.repeats, self.hashes = Repeats(), np.empty(0, np.uint64)
        if number:
            self.hashes = repeated(_hashes(pieces, counts), number)

    def _hold(self, values: Any) -> Any:
        """bool [N], whether these hashes, uint64 [N], are of keys that come again."""
        return self.hashes[np.minimum(np.searchsorted(self.hashes, values), len(self.hashes) - 1)] == values

    def numbered(self, keys: pa.StringArray, hashes: pa.UInt64Array) -> pa.StringArray:
        """The keys of the next rows, those that come again with their numbers."""
        if not len(self.hashes) or hashes.null_count == len(hashes):
            return keys
        is_hashed = hashes.is_valid().to_numpy(zero_copy_only=False)
        is_again = self._hold(hashes.fill_null(0).to_numpy()) & is_hashed
        looks_so = pc.match_substring_regex(keys, NUMBERED).to_numpy(zero_copy_only=False) & is_hashed & ~is_again
        for row in np.flatnonzero(looks_so).tolist():
            is_again[row] = is_repeat_of(keys[row].as_py(), lambda value: bool(self._hold(np.uint64(value))))
        again = np.flatnonzero(is_again)
        if not len(again):
            return keys
        found = keys.to_pylist()
        numbered = self.repeats.unique([found[row] for row in again.tolist()])
        for row, key in zip(again.tolist(), numbered, strict=True):
            found[row] = key
        return pa.array(found, pa.string())


def _hashes(pieces: Pieces, counts: Sequence[PieceCounts]) -> Iterator[np.ndarray]:
    for number, each in enumerate(counts):
        if each.num_hashed:
            for table in pieces.tables(number, each, ["hash"]):
                yield table["hash"].combine_chunks().drop_null().to_numpy()
