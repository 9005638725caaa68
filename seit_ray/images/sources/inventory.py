"""A list of a bucket's objects in place of listing it: an S3 Inventory in Parquet, or any table with such columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from seit_ray.images.sources.faults import read_named
from seit_ray.images.sources.names import suffix_of
from seit_ray.storage import Entries, Folder, split_uri

# field -> names that its column may have, as S3, Google and others call it; etag: `Folder.version_columns`. A time is
# no version: a listing, an inventory and the answer to a read tell it each in another form.
COLUMNS = {
    "key": ("key", "name", "uri"),
    "size": ("size", "size_bytes", "bytes"),
}
WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # where a word begins in IsLatest and ETag
HEADER_BYTES = 4096  # that are looked at; S3's own has some 300
ROWS = 1000  # that become Python's at a time
SLICE_ROWS = 100_000  # of a piece


def sorted_inventory(source: Folder, uri: str) -> pa.Table:
    """The objects below a source in the order of their names, from the table at `uri`, which is held in memory.

    Columns key, size, etag. A key may be a whole uri, or lie in the source's bucket; on disk it is a path,
    relative ones begin at the source. What lies elsewhere is passed over. ValueError for a table without keys and
    sizes, and when nothing lies below.
    """
    table = read_table(source, uri)
    names = relative_names(table["key"].combine_chunks(), source)
    table = table.set_column(0, "key", names).filter(pc.and_(pc.is_valid(names), table["is_current"]))
    if not len(table):
        raise ValueError(f"inventory {uri} has no key below {source.uri}; expected its objects; check source.inventory")
    twice = table["key"].value_counts().filter(pc.greater(table["key"].value_counts().field("counts"), 1))
    if len(twice):
        raise ValueError(
            f"inventory {uri} has the key {twice[0]['values'].as_py()!r} twice; expected each object once, or a "
            "column is_latest; drop the others"
        )
    # by bytes, as buckets are listed
    table = table.set_column(0, "key", table["key"].cast(pa.binary())).drop_columns(["is_current"])
    return table.sort_by("key")


def inventory_entries(table: pa.Table) -> Iterator[Entries]:
    """The objects of a sorted inventory, or of a slice of it, some at a time."""
    for batch in table.to_batches(ROWS):
        names = batch["key"].cast(pa.string()).to_pylist()
        sizes, etags = batch["size"].fill_null(0).to_pylist(), batch["etag"].fill_null("").to_pylist()
        yield Entries(names, sizes, [""] * len(names), [etag.strip('"') for etag in etags])


def keep_slices(table: pa.Table, folder: Folder) -> list[str]:
    """Write a sorted inventory in slices, so that each of them can be read for itself; their names."""
    names = []
    for number, start in enumerate(range(0, len(table), SLICE_ROWS)):
        sink = io.BytesIO()
        pq.write_table(table.slice(start, SLICE_ROWS), sink, compression="zstd", write_statistics=False)
        names.append(f"slice-{number:05}.parquet")
        folder.write(names[-1], sink.getvalue())
    return names


def kept_slice(folder: Folder, name: str) -> pa.Table:
    """One of them."""
    return pq.ParquetFile(pa.BufferReader(folder.read(name))).read(use_threads=False)


def read_table(source: Folder, uri: str) -> pa.Table:
    """The columns key, size and etag of a table; the last null where there is none."""
    folder, name = split_uri(uri)
    if suffix_of(name) not in (".parquet", ".csv"):
        raise ValueError(f"inventory {uri}; expected a .parquet or a .csv file with a header; convert it")
    place = source.at(folder)
    data = pa.BufferReader(read_named(lambda: place.read(name), place, name))
    known_columns = {**COLUMNS, "etag": source.version_columns}
    try:
        is_parquet = suffix_of(name) == ".parquet"
        # of texts: a key of digits is no number
        texts = dict.fromkeys(sum(known_columns.values(), ()), pa.string())
        table = pq.ParquetFile(data).read(use_threads=False) if is_parquet else read_csv(data, texts)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"inventory {uri} cannot be read ({' '.join(str(error).split())}); expected a table"
        ) from error
    columns = {}
    for field, known in known_columns.items():
        found = next((column for column in known if column in table.column_names), None)
        if found is None and field in ("key", "size"):
            raise ValueError(f"inventory {uri} with {table.column_names}; expected a column {' or '.join(known)}")
        columns[field] = pa.nulls(len(table)) if found is None else table[found]
    try:
        casts = {field: columns[field].cast(kind) for field, kind in (("key", pa.string()), ("etag", pa.string()))}
        casts["size"] = columns["size"].cast(pa.int64())
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"inventory {uri}: {reason}; expected keys, and sizes in bytes; write it again") from error
    is_current = pa.chunked_array([pa.array([True] * len(table))])
    for column, wanted in (("is_latest", "true"), ("is_delete_marker", "false")):  # of a bucket with versions
        if column in table.column_names:
            values = pc.utf8_lower(table[column].cast(pa.string()))
            is_current = pc.and_(is_current, pc.fill_null(pc.equal(values, wanted), column == "is_delete_marker"))
    return pa.table({**columns, **casts, "is_current": is_current})


def read_csv(data: pa.BufferReader, texts: dict[str, pa.DataType]) -> pa.Table:
    """A CSV table; S3's own, whose header is the fileSchema of its manifest.json, with the names of its Parquet files.

    There keys are URL-encoded (S3 User Guide, "Amazon S3 Inventory list"); in others a % is a %.
    """
    convert, line = pa_csv.ConvertOptions(column_types=texts), data.read(HEADER_BYTES).partition(b"\n")[0]
    data.seek(0)
    names = [name.strip(' "\r') for name in line.decode("utf-8-sig", "replace").split(",")]
    if not {"Bucket", "Key"}.issubset(names):
        return pa_csv.read_csv(data, convert_options=convert)
    names = [WORD.sub("_", name).lower() for name in names]
    read = pa_csv.ReadOptions(column_names=names, skip_rows=1)
    table = pa_csv.read_csv(data, read_options=read, convert_options=convert)
    keys = table["key"].combine_chunks()
    is_encoded = pc.match_substring_regex(keys, "[%+]")
    decoded = pa.array(map(unquote_plus, keys.filter(is_encoded).to_pylist()), pa.string())
    return table.set_column(names.index("key"), "key", pc.replace_with_mask(keys, is_encoded, decoded))


def relative_names(keys: pa.Array, source: Folder) -> pa.Array:
    """What a listing of the source would call each key; null for one that lies elsewhere."""
    root = source.uri.rstrip("/") + "/"
    bucket = "/".join(root.split("/")[:3]) + "/" if source.is_remote else ""
    is_whole = pc.or_(pc.match_substring(keys, "://"), pc.starts_with(keys, "/"))
    start = bucket if source.is_remote else root
    uris = pc.if_else(is_whole, keys, pc.binary_join_element_wise(pa.scalar(start), keys, ""))
    names = pc.utf8_slice_codeunits(uris, len(root))
    is_below = pc.and_(pc.starts_with(uris, root), pc.not_equal(names, ""))
    is_folder = pc.ends_with(uris, "/")  # as consoles make them: no object
    return pc.if_else(pc.and_(is_below, pc.invert(is_folder)), names, pa.scalar(None, pa.string()))
