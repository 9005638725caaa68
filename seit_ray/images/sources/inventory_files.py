"""The files of an inventory, read some rows at a time: one table, or those that the manifest.json of S3 names."""

from __future__ import annotations

import contextlib
import csv
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from seit_ray.images.sources.faults import read_named
from seit_ray.storage import Folder, StorageError, split_uri

# field -> names that its column may have, as S3, Google and others call it; etag: `Folder.version_columns`. A time is
# no version: a listing, an inventory and the answer to a read tell it each in another form.
COLUMNS = {
    "key": ("key", "name", "uri"),
    "size": ("size", "size_bytes", "bytes"),
}
VERSIONS = {"is_latest": True, "is_delete_marker": False}  # of a bucket with versions: what those of now say
TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": None}  # how it is said; None: not at all
WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # where a word begins in IsLatest and ETag
BUCKET = "bucket"  # a column of some inventories: rows of another one lie elsewhere
HEADER_BYTES = 4096  # that are looked at; S3's own has some 300
BATCH_ROWS = 65_536  # of Parquet, and
BLOCK_BYTES = 4 << 20  # of CSV, that are read at a time
BUFFER_BYTES = 1 << 20  # of a column of Parquet; else all of a row group would be read at once
EXPECTED = "a .parquet or a .csv file with a header, or the manifest.json of an S3 Inventory"


@dataclass(frozen=True)
class InventoryFile:
    """One of them; names: of its columns, size: in bytes, where they are told elsewhere."""

    folder: Folder
    name: str
    names: tuple[str, ...] | None = None
    size: int | None = None

    @property
    def is_parquet(self) -> bool:
        """Else it is CSV, which may be compressed."""
        return self.name.lower().endswith(".parquet")


def files_of(source: Folder, uri: str) -> list[InventoryFile]:
    """The files of the inventory at `uri`; ValueError for what is none."""
    place, name = split_uri(uri)
    folder, end = source.at(place), name.lower()
    if end.endswith((".parquet", ".csv", ".csv.gz")):
        return [InventoryFile(folder, name)]
    if not end.endswith(".json"):
        raise ValueError(f"inventory {uri}; expected {EXPECTED}; convert it")
    data = read_named(lambda: folder.read(name), folder, name)
    try:
        manifest = json.loads(data)
        kind, schema, files = (manifest[field] for field in ("fileFormat", "fileSchema", "files"))
        named = [(file["key"].strip(), int(file["size"]) if "size" in file else None) for file in files]
        bucket = manifest["destinationBucket"].rpartition(":")[2]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"inventory {uri} cannot be read ({error!r}); expected {EXPECTED}; correct it") from error
    if kind not in ("CSV", "Parquet"):
        raise ValueError(f"inventory {uri} in {kind}; expected CSV or Parquet; let S3 write it in one of these")
    listed, expected = str(manifest.get("sourceBucket", "")).rpartition(":")[2], _bucket_of(source)
    if listed and expected and listed != expected:
        raise ValueError(f"inventory {uri} of bucket {listed}; expected one of {expected}, where the images are")
    names = tuple(part.strip() for part in schema.split(",")) if kind == "CSV" else None
    return [InventoryFile(*_place_of(folder, bucket, key), names, size) for key, size in named]


def _place_of(folder: Folder, bucket: str, key: str) -> tuple[Folder, str]:
    """(folder, name) of a file that a manifest names; of one that was copied to a disk, as S3 lays them out."""
    above, _, name = key.rpartition("/")
    if folder.is_remote:
        return folder.at(f"{folder.uri.partition('://')[0]}://{bucket}/{above}".rstrip("/")), name
    return folder.at(posixpath.join(posixpath.dirname(folder.uri), "data")), name


def current_rows(source: Folder, uri: str, files: Sequence[InventoryFile]) -> Iterator[pa.Table]:
    """The objects of now in the files of an inventory, some at a time: columns key, size, etag (null for none)."""
    known = {**COLUMNS, "etag": source.version_columns}
    bucket = _bucket_of(source)
    for file in files:
        _check_size(file, uri)
        for table in _tables(file, uri, sum(known.values(), (*VERSIONS, BUCKET))):
            if bucket and BUCKET in table.column_names:
                table = table.filter(pc.equal(table[BUCKET].cast(pa.string()), bucket))
            columns = {}
            for field, words in known.items():
                found = next((word for word in words if word in table.column_names), None)
                if found is None and field in ("key", "size"):
                    raise ValueError(f"inventory {uri} with {_shown(file)}; expected a column {' or '.join(words)}")
                columns[field] = pa.nulls(len(table)) if found is None else table[found]
            yield pa.table(_typed(columns, uri)).filter(_are_current(table, uri))


def _bucket_of(source: Folder) -> str:
    """The name of a source's bucket; none of a disk's, nor of an access point, which has another one."""
    name = source.uri.split("/")[2] if source.is_remote else ""
    return "" if name.startswith("arn:") else name


def _check_size(file: InventoryFile, uri: str) -> None:
    """ValueError for a file that is not the one its manifest tells of."""
    size = file.folder.size(file.name) if file.size is not None else None
    if size is not None and size != file.size:
        raise ValueError(
            f"inventory {uri} says that {file.name} has {file.size} bytes, it has {size}; expected the files that it "
            "was written with; copy them again"
        )


def _shown(file: InventoryFile) -> str:
    return str(list(file.names) if file.names else file.name)


def _typed(columns: dict[str, Any], uri: str) -> dict[str, Any]:
    try:
        sizes = columns["size"]
        if pa.types.is_string(sizes.type):
            sizes = pc.if_else(pc.equal(sizes, ""), pa.scalar(None, pa.string()), sizes)
        return {
            "key": columns["key"].cast(pa.string()),
            "size": sizes.cast(pa.int64()),
            "etag": pc.utf8_trim(columns["etag"].cast(pa.string()), '"'),
        }
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"inventory {uri}: {reason}; expected keys, and sizes in bytes; write it again") from error


def _are_current(table: pa.Table, uri: str) -> pa.Array:
    """Of which nothing is said they are: should there be several of a key, that is told."""
    are_current = pa.repeat(True, len(table))
    for column, wanted in VERSIONS.items():
        if column in table.column_names:
            said = pc.utf8_lower(table[column].cast(pa.string())).combine_chunks()
            places = pc.index_in(pc.fill_null(said, ""), pa.array(TRUTHS))
            if places.null_count:
                value = said.filter(pc.is_null(places))[0].as_py()
                raise ValueError(f"inventory {uri} has {column} {value!r}; expected true or false; write it again")
            truths = pa.array(TRUTHS.values(), pa.bool_()).take(places)
            are_current = pc.and_(are_current, pc.fill_null(pc.equal(truths, wanted), True))
    return are_current


def _tables(file: InventoryFile, uri: str, wanted: Sequence[str]) -> Iterator[pa.Table]:
    """Some rows of a file at a time, of the columns with one of these names; ValueError for a file that is broken."""
    try:
        yield from _parquet_tables(file, wanted) if file.is_parquet else _csv_tables(file, wanted)
    except StorageError:
        raise
    except (pa.ArrowException, OSError, EOFError, csv.Error) as error:  # OSError: Arrow's, of damage
        raise ValueError(
            f"inventory {uri} cannot be read ({' '.join(str(error).split())}); expected a table"
        ) from error


def _parquet_tables(file: InventoryFile, wanted: Sequence[str]) -> Iterator[pa.Table]:
    with file.folder.open(file.name) as opened:
        found = pq.ParquetFile(opened, buffer_size=BUFFER_BYTES, page_checksum_verification=True)
        columns = _once([name for name in found.schema_arrow.names if name in wanted])
        for batch in found.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def _csv_tables(file: InventoryFile, wanted: Sequence[str]) -> Iterator[pa.Table]:
    """S3's own have the fileSchema of their manifest.json as header, or names told by it; here those of its Parquet.

    There keys are URL-encoded (S3 User Guide, "Amazon S3 Inventory list"); in others a % is a %.
    """
    written = list(file.names or _header_of(file))
    is_of_s3 = {"Bucket", "Key"}.issubset(written)
    names = [WORD.sub("_", name).lower() for name in written] if is_of_s3 else written
    read = pa_csv.ReadOptions(column_names=names, skip_rows=0 if file.names else 1, block_size=BLOCK_BYTES)
    columns = _once([name for name in names if name in wanted])
    # of texts: a key of digits is no number
    convert = pa_csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
    if file.names and not _begins(file):
        return  # S3's have no header, so that one without objects is empty
    with _opened_csv(file) as opened:
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        for batch in pa_csv.open_csv(opened, read, parse, convert):
            table = pa.Table.from_batches([batch])
            yield table.set_column(columns.index("key"), "key", _decoded(table["key"])) if is_of_s3 else table


def _once(columns: list[str]) -> list[str]:
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise pa.ArrowInvalid(f"column {twice} stands twice")
    return columns


def _header_of(file: InventoryFile) -> list[str]:
    line = _begins(file).partition(b"\n")[0].decode("utf-8-sig", "replace")
    return [name.strip() for name in next(csv.reader([line.rstrip("\r")], skipinitialspace=True), [])]


def _begins(file: InventoryFile) -> bytes:
    with _opened_csv(file) as opened:
        return bytes(opened.read(HEADER_BYTES))


@contextlib.contextmanager
def _opened_csv(file: InventoryFile) -> Iterator[Any]:
    with file.folder.open(file.name) as opened:
        is_compressed = file.name.lower().endswith(".gz")
        yield pa.CompressedInputStream(opened, "gzip") if is_compressed else opened


def _decoded(keys: pa.ChunkedArray) -> pa.Array:
    plain = keys.combine_chunks()
    is_encoded = pc.match_substring_regex(plain, "[%+]")
    decoded = pa.array(map(unquote_plus, plain.filter(is_encoded).to_pylist()), pa.string())
    return pc.replace_with_mask(plain, is_encoded, decoded)
