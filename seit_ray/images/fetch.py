"""The encoded bytes of listed images, from objects of their own, rows of Parquet files or parts of tars."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.decode import ImageError
from seit_ray.images.records import missing_column, unusable_reason
from seit_ray.images.sources.addresses import address_in_parquet
from seit_ray.images.sources.parquet_files import DamagedParquetError, damaged, open_parquet
from seit_ray.images.sources.settings import Columns
from seit_ray.images.sources.tars import ADDRESS, fetch_spans
from seit_ray.storage import Folder, StorageError, split_uri

MAX_BYTES = 64 << 20
BATCH_BYTES, BUFFER_BYTES = 32 << 20, 4 << 20  # of a Parquet file's images at a time; of a read of it
OF_THE_OBJECT = ("missing", "too_large", "changed", "archived", "refused")  # kinds of StorageError
NO_BYTES = "no bytes in the Parquet row"

Cells = tuple[bytes | Exception, ...]  # of a row of a Parquet file, in the order of the columns that are asked for


def fetch_images(
    records: Sequence[tuple[str, str]],
    source: Folder,
    *,
    versions: Sequence[str | None] | None = None,
    image_column: str = Columns.image,
    max_bytes: int = MAX_BYTES,
) -> list[bytes | Exception]:
    """Encoded bytes in the order of records, (key, uri) each, read with the credentials of source.

    What cannot be had gives an exception in its place: an ImageError where the image is at fault (not there,
    larger than max_bytes, of another version than was listed, damaged file), a StorageError where the storage is
    (denied, unreachable). versions: those of the manifest, compared once for each file. Raises ValueError when a
    Parquet file has no image_column.
    """
    version_of = dict(enumerate(versions or ()))
    found: dict[int, bytes | Exception] = {}  # by place in records
    objects: list[int] = []
    # (uri of a Parquet file, column) -> row -> places in records
    rows: dict[tuple[str, str], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    # uri of a tar -> (offset, size) -> places in records
    spans: dict[str, dict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, (_, uri) in enumerate(records):
        if (reason := unusable_reason(uri)) is not None:
            found[place] = ImageError(reason)
        elif "#" not in uri:  # most: an expression takes longer
            objects.append(place)
        elif (in_parquet := address_in_parquet(uri)) is not None:
            rows[in_parquet.file, in_parquet.column or image_column][in_parquet.row].append(place)
        elif in_tar := ADDRESS.fullmatch(uri):
            spans[in_tar[1]][int(in_tar[2]), int(in_tar[3])].append(place)
        else:
            objects.append(place)
    uris = [records[place][1] for place in objects]
    contents = source.read_uris(uris, max_bytes=max_bytes, versions=[version_of.get(place) for place in objects])
    some_denied = _some_denied(source, uris, contents, max_bytes)
    found.update((place, _at_fault(data, some_denied)) for place, data in zip(objects, contents, strict=True))
    for (uri, column), by_row in rows.items():
        version = version_of.get(next(iter(by_row.values()))[0])
        cells = rows_of_parquet(source, uri, version, sorted(by_row), [column], max_bytes)
        for row, (image,) in zip(sorted(by_row), cells, strict=True):
            found.update(dict.fromkeys(by_row[row], image))
    for uri, by_span in spans.items():
        version = version_of.get(next(iter(by_span.values()))[0])
        for span, image in _fetch_spans(source, uri, version, by_span, max_bytes).items():
            found.update(dict.fromkeys(by_span[span], image))
    return [found[place] for place in range(len(records))]


def row_group_ends(source: Folder, uri: str) -> list[int]:
    """Of a Parquet file: the number of the row behind each row group; none of a file that cannot be read."""
    folder, name = split_uri(uri)
    try:
        with open_parquet(source.at(folder), name) as file:
            groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    except (StorageError, DamagedParquetError):  # which whoever reads its rows will say
        return []
    return list(itertools.accumulate(groups))


def _some_denied(source: Folder, uris: list[str], contents: Sequence[bytes | Exception], max_bytes: int) -> bool:
    """Whether the objects that were denied have rules of their own: others can be read, before and after."""
    read = [uri for uri, content in zip(uris, contents, strict=True) if isinstance(content, bytes)]
    if not read or not any(isinstance(content, StorageError) and content.kind == "denied" for content in contents):
        return False
    (again,) = source.read_uris(read[:1], max_bytes=max_bytes)  # else rights that end meanwhile would cost images
    return isinstance(again, bytes)


def _at_fault(content: bytes | Exception, some_denied: bool = False) -> bytes | Exception:
    """A StorageError that is about the object as an ImageError; some_denied: so is one of its access rules."""
    if not isinstance(content, StorageError):
        return content
    is_its_own = content.kind in OF_THE_OBJECT or (content.kind == "denied" and some_denied)
    return ImageError(str(content)) if is_its_own else content


def _fetch_spans(
    source: Folder, uri: str, version: str | None, spans: Collection[tuple[int, int]], max_bytes: int
) -> Mapping[tuple[int, int], bytes | Exception]:
    """(offset, size) -> bytes or error, in one tar."""
    try:
        found = fetch_spans(source, uri, spans, max_bytes, version or None)
        return {span: _at_fault(content) for span, content in found.items()}
    except StorageError as error:
        return dict.fromkeys(spans, _at_fault(error))


def rows_of_parquet(
    source: Folder, uri: str, version: str | None, rows: Sequence[int], columns: Sequence[str], max_bytes: int
) -> Iterator[Cells]:
    """Bytes or errors of ascending rows of one file, as it is read: the columns of each row group once, together.

    A damaged row group costs its own rows alone, however the rows of a file are shared out among tasks.
    """
    folder, name = split_uri(uri)
    done = 0
    try:
        with open_parquet(source.at(folder), name, BUFFER_BYTES, version or None) as file:
            for column in columns:
                if column not in file.schema_arrow.names:
                    setting = "image_column" if column == columns[0] else "mask_column"
                    raise missing_column(column, uri, file.schema_arrow.names, setting)
            for group, wanted in _by_group(file, rows):
                for cells in _cells_or_damage(file, group, wanted, columns, uri):
                    done += 1
                    yield tuple(_content_of(cell, max_bytes) for cell in cells)
    except StorageError as error:
        failure = _at_fault(error)
    except DamagedParquetError as error:
        failure = ImageError(str(error))
    else:
        failure = ImageError(f"{uri} has fewer rows than were listed; expected the listed file; list the source again")
    for _ in range(done, len(rows)):
        yield (failure,) * len(columns)


def _content_of(cell: Any, max_bytes: int) -> bytes | Exception:
    """The bytes of a cell, a binary scalar; an error where it is one, or has none, or too many."""
    if isinstance(cell, Exception):
        return cell
    if not cell.is_valid:
        return ImageError(f"{NO_BYTES}; expected an encoded image; embed the images")
    size_bytes = cell.as_buffer().size
    if size_bytes > max_bytes:
        return ImageError(f"size {size_bytes} bytes; expected at most {max_bytes}; raise max_image_mib")
    return bytes(cell.as_buffer().to_pybytes())


def _by_group(file: pq.ParquetFile, rows: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """(row group, places in it) of ascending rows, as far as the file has them."""
    first = start = 0
    for group in range(file.num_row_groups):
        end = first + file.metadata.row_group(group).num_rows
        stop = bisect.bisect_left(rows, end, start)
        if stop > start:
            yield group, [row - first for row in rows[start:stop]]
        first, start = end, stop


def _cells_or_damage(
    file: pq.ParquetFile, group: int, wanted: list[int], columns: Sequence[str], uri: str
) -> Iterator[list[Any]]:
    """`_cells_of`; ImageErrors in place of each that damage in the group has left."""
    done = 0
    try:
        for cells in _cells_of(file, group, wanted, columns):
            done += 1
            yield cells
    except (pa.ArrowException, OSError) as error:
        damage: list[Any] = [ImageError(str(damaged(uri, error)))] * len(columns)
        yield from itertools.repeat(damage, len(wanted) - done)


def _cells_of(file: pq.ParquetFile, group: int, wanted: list[int], columns: Sequence[str]) -> Iterator[list[Any]]:
    """Binary scalars of each of some places of a row group, ascending, in the order of the columns; in batches."""
    structs = {column for column in columns if pa.types.is_struct(file.schema_arrow.field(column).type)}
    paths = [f"{column}.bytes" if column in structs else column for column in columns]
    batch_rows = _batch_rows(file.metadata.row_group(group), paths)
    first = done = 0
    for batch in file.iter_batches(batch_rows, row_groups=[group], columns=paths, use_threads=False):
        found = [batch.column(column) for column in columns]
        found = [c.field("bytes") if name in structs else c for name, c in zip(columns, found, strict=True)]
        while done < len(wanted) and wanted[done] < first + len(batch):
            yield [column[wanted[done] - first] for column in found]
            done += 1
        first += len(batch)
        if done == len(wanted):
            break


def _batch_rows(group: pq.RowGroupMetaData, paths: Sequence[str]) -> int:
    """Rows of a group that are read at a time."""
    chunks = (group.column(index) for index in range(group.num_columns))
    num_bytes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in paths)
    return int(max(1, min(group.num_rows, BATCH_BYTES * group.num_rows // max(1, num_bytes))))
