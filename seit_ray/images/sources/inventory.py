"""A list of a bucket's objects in place of listing it: an S3 Inventory, or any table with such columns.

However long it is, some of its rows are in memory at a time: see `sorting`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seit_ray.images.sources.faults import read_named
from seit_ray.images.sources.inventory_files import current_rows, files_of
from seit_ray.images.sources.sorting import SortedRows
from seit_ray.storage import Entries, Folder, split_uri

ROWS = 1000  # that become Python's at a time
SLICE_ROWS = 100_000  # of a piece


@dataclass(frozen=True)
class Inventory:
    """The objects below a source, from the table at `uri`; columns key (bytes), size, etag."""

    uri: str
    rows: SortedRows

    def slices(self) -> Iterator[pa.Table]:
        """By bytes of the names, as buckets are listed; ValueError for an object that comes twice."""
        for table in self.rows.slices():
            keys = table["key"].combine_chunks()
            twice = keys[1:].filter(pc.equal(keys[1:], keys[:-1]))
            if len(twice):
                raise ValueError(
                    f"inventory {self.uri} has the key {twice[0].as_py().decode()!r} twice; expected each object once, "
                    "or a column is_latest; drop the others"
                )
            yield table


def sorted_inventory(source: Folder, uri: str) -> Inventory:
    """The objects below a source, from the table at `uri`, which is read once.

    A key may be a whole uri, or lie in the source's bucket; on disk it is a path, relative ones begin at the source.
    What lies elsewhere is passed over. ValueError for a table without keys and sizes, and when nothing lies below.
    """
    files = files_of(source, uri)

    def read() -> Inventory:
        tables = (_below(table, source, uri) for table in current_rows(source, uri, files))
        return Inventory(uri, SortedRows(tables, SLICE_ROWS))

    place, name = split_uri(uri)
    found = read_named(read, source.at(place), name)
    if not found.rows.num_rows:
        raise ValueError(f"inventory {uri} has no key below {source.uri}; expected its objects; check source.inventory")
    return found


def _below(table: pa.Table, source: Folder, uri: str) -> pa.Table:
    keys = table["key"].combine_chunks()
    if pc.any(pc.fill_null(pc.equal(keys, ""), True)).as_py():
        raise ValueError(f"inventory {uri} has a row without a key; expected one in each; write it again")
    names = relative_names(keys, source)
    table = table.set_column(0, "key", names.cast(pa.binary()))
    return table.filter(pc.is_valid(names))


def inventory_entries(tables: Iterable[pa.Table]) -> Iterator[Entries]:
    """The objects of slices of an inventory, some at a time."""
    for table in tables:
        for batch in table.to_batches(ROWS):
            names = batch["key"].cast(pa.string()).to_pylist()
            sizes, etags = batch["size"].fill_null(0).to_pylist(), batch["etag"].fill_null("").to_pylist()
            yield Entries(names, sizes, [""] * len(names), etags)


def keep_slices(inventory: Inventory, folder: Folder) -> list[str]:
    """Write the slices of an inventory, so that each of them can be read for itself; their names."""
    names = []
    for number, table in enumerate(inventory.slices()):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", write_statistics=False)
        names.append(f"slice-{number:05}.parquet")
        folder.write(names[-1], sink.getvalue())
    return names


def kept_slice(folder: Folder, name: str) -> pa.Table:
    """One of them."""
    return pq.ParquetFile(pa.BufferReader(folder.read(name))).read(use_threads=False)


def relative_names(keys: pa.Array, source: Folder) -> pa.Array:
    """What a listing of the source would call each key; null for one that lies elsewhere."""
    root = source.uri.rstrip("/") + "/"
    bucket = "/".join(root.split("/")[:3]) + "/" if source.is_remote else ""
    is_whole = pc.match_substring_regex(keys, "^[a-z][a-z0-9+.-]*://")  # a key of a bucket may have :// further on
    if not source.is_remote:
        is_whole = pc.or_(is_whole, pc.starts_with(keys, "/"))
    start = bucket if source.is_remote else root
    uris = pc.if_else(is_whole, keys, pc.binary_join_element_wise(pa.scalar(start), keys, ""))
    names = pc.utf8_slice_codeunits(uris, len(root))
    is_below = pc.and_(pc.starts_with(uris, root), pc.not_equal(names, ""))
    is_folder = pc.ends_with(uris, "/")  # as consoles make them: no object
    return pc.if_else(pc.and_(is_below, pc.invert(is_folder)), names, pa.scalar(None, pa.string()))
