"""Rows of the manifest and their encoded bytes, some at a time: as many as memory allows, whatever the images.

A chunk is at most CHUNK_ROWS images, whose bytes and whose pixels are at most CHUNK_BYTES each, but for a single one
that is larger. A Parquet file is read on where the chunk before ended: each of its row groups once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from seit_ray.images.decode import ImageError
from seit_ray.images.fetch import address_in_parquet, fetch_images, row_group_ends, rows_of_parquet
from seit_ray.storage import Folder, StorageError, host_of
from seit_ray.storage.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S

CHUNK_ROWS, CHUNK_BYTES = 256, 64 << 20
UNKNOWN_BYTES = 8 << 20  # taken for an image whose size the source does not tell
HOST_PATIENCE_S = 10.0  # with a server of https:// addresses, while others answer: among many, some are gone


class Pair(NamedTuple):
    """The encoded bytes of an image and of its label map."""

    image: bytes
    mask: bytes


Contents = Sequence[bytes | Pair | Exception]
Chunk = tuple[pa.Table, Contents]
Image = tuple[str, str, str | None]  # key, uri, version


class Limits(Protocol):
    """Of `Decoding`."""

    @property
    def image_column(self) -> str: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def pixel_bytes(self) -> int: ...
    @property
    def patience_s(self) -> float: ...
    @property
    def masks(self) -> bool: ...


def read_chunks(listed: pa.Table, source: Folder, limits: Limits) -> Iterator[Chunk]:
    """(rows, bytes or an error for each), in the order of the rows; errors as of `fetch_images`.

    In a source of pairs, where limits.masks asks for them, a `Pair` in place of the bytes.
    """
    chunks = image_chunks(listed, source, limits)
    if not (limits.masks and "mask_uri" in listed.column_names):
        yield from chunks
        return
    for rows, contents in chunks:
        yield rows, paired(rows, contents, source, limits)


def paired(rows: pa.Table, contents: Contents, source: Folder, limits: Limits) -> Contents:
    """The images of rows with their maps; of what cannot be had the error, the image's first."""
    names = {"key": "key", "mask_uri": "uri", "mask_version": "version"}
    maps, _ = fetch_patiently(rows.select(list(names)).rename_columns(list(names.values())), source, limits, None)
    found: list[bytes | Pair | Exception] = []
    for image, mask in zip(contents, maps, strict=True):
        if isinstance(image, bytes) and isinstance(mask, bytes):
            found.append(Pair(image, mask))
        else:
            found.append(image if isinstance(image, Exception) else mask)
    return found


def image_chunks(listed: pa.Table, source: Folder, limits: Limits) -> Iterator[Chunk]:
    """The chunks of images alone."""
    most = max(1, min(CHUNK_ROWS, CHUNK_BYTES // limits.pixel_bytes))
    for start, stop, file in runs_of(listed["uri"].to_pylist()):
        rows = listed.slice(start, stop - start)
        if file is None:
            yield from chunks_of_objects(rows, source, limits, most)
        else:
            yield from chunks_of_parquet(rows, file, source, limits, most)


def runs_of(uris: list[str]) -> Iterator[tuple[int, int, str | None]]:
    """(start, stop, uri of the Parquet file whose ascending rows these are; None for other images)."""
    start, file, last = 0, None, -1
    for place, uri in enumerate(uris):
        address = address_in_parquet(uri)
        here, row = address if address is not None else (None, -1)
        if place and (here != file or (here is not None and row <= last)):
            yield start, place, file
            start = place
        file, last = here, row
    if uris:
        yield start, len(uris), file


def chunks_of_objects(rows: pa.Table, source: Folder, limits: Limits, most: int) -> Iterator[Chunk]:
    """Of images in objects of their own and in tars: as many as their listed sizes allow."""
    sizes = [
        UNKNOWN_BYTES if size is None else min(size, limits.max_bytes)  # a larger one is not read
        for size in rows["size_bytes"].to_pylist()
    ]
    start, readable = 0, None
    while start < len(sizes):
        stop, room = start + 1, CHUNK_BYTES - sizes[start]
        while stop < min(len(sizes), start + most) and sizes[stop] <= room:
            room -= sizes[stop]
            stop += 1
        chunk = rows.slice(start, stop - start)
        contents, readable = fetch_patiently(chunk, source, limits, readable)
        yield chunk, contents
        start = stop


def fetch_patiently(
    chunk: pa.Table, source: Folder, limits: Limits, readable: Image | None
) -> tuple[list[bytes | Exception], Image | None]:
    """(bytes or an error for each row, an image that can be read); what a storage does not give is asked for again.

    readable: an image that could be read before. What stays away while that one comes is at fault itself; so is,
    soon, the server of an https:// address while another answers.
    """
    columns = (chunk[name].to_pylist() for name in ("key", "uri", "version"))
    images: list[Image] = list(zip(*columns, strict=True))
    contents = fetch(images, source, limits)
    pause, start = FIRST_PAUSE_S, time.monotonic()
    end = start + limits.patience_s
    while missing := [place for place, content in enumerate(contents) if is_unavailable(content)]:
        on_servers = any(host_of(images[place][1]) for place in missing)
        if on_servers and time.monotonic() + pause > start + HOST_PATIENCE_S:
            seen = readable if readable is not None and is_bytes(fetch([readable], source, limits)[0]) else None
            contents = without_gone_hosts(images, contents, seen)
            missing = [place for place in missing if is_unavailable(contents[place])]
        if not missing or time.monotonic() + pause > end:
            break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
        for place, content in zip(missing, fetch([images[place] for place in missing], source, limits), strict=True):
            contents[place] = content
    readable = next((image for image, content in zip(images, contents, strict=True) if is_bytes(content)), readable)
    if missing and readable is not None and is_bytes(fetch([readable], source, limits)[0]):
        # once more, as the storage may have come back just now
        for place, content in zip(missing, fetch([images[place] for place in missing], source, limits), strict=True):
            contents[place] = own_fault(content)
    return contents, readable


def without_gone_hosts(
    images: list[Image], contents: list[bytes | Exception], seen: Image | None
) -> list[bytes | Exception]:
    """An ImageError in place of what a server of https:// addresses did not give while another one answered.

    seen: an image of an earlier chunk that can be read just now.
    """
    hosts = [host_of(uri) for _, uri, _ in images]
    answering = {host for host, content in zip(hosts, contents, strict=True) if not is_unavailable(content)}
    if seen is not None:
        answering.add(host_of(seen[1]))
    gone = {*hosts} - {*answering, None} if answering else set()
    return [
        ImageError(str(content)) if host in gone else content for host, content in zip(hosts, contents, strict=True)
    ]


def fetch(images: list[Image], source: Folder, limits: Limits) -> list[bytes | Exception]:
    """`fetch_images` of (key, uri, version)."""
    return fetch_images(
        [(key, uri) for key, uri, _ in images],
        source,
        versions=[version for *_, version in images],
        image_column=limits.image_column,
        max_bytes=limits.max_bytes,
    )


def is_unavailable(content: bytes | Exception) -> bool:
    """Whether it may come when it is asked for again."""
    return isinstance(content, StorageError) and content.kind == "unavailable"


def own_fault(content: bytes | Exception) -> bytes | Exception:
    """An ImageError in place of what still does not come, though others do."""
    return ImageError(str(content)) if is_unavailable(content) else content


def is_bytes(content: bytes | Exception) -> bool:
    """Whether it came."""
    return isinstance(content, bytes)


def chunks_of_parquet(rows: pa.Table, file: str, source: Folder, limits: Limits, most: int) -> Iterator[Chunk]:
    """Of ascending rows of one Parquet file."""
    numbers = [address[1] for uri in rows["uri"].to_pylist() if (address := address_in_parquet(uri)) is not None]
    version = rows["version"][0].as_py()
    start, contents, room = 0, list[bytes | Exception](), CHUNK_BYTES
    for content in patient_rows(source, file, version, numbers, limits):
        size = len(content) if isinstance(content, bytes) else 0
        if contents and (len(contents) == most or size > room):
            yield rows.slice(start, len(contents)), contents
            start, contents, room = start + len(contents), [], CHUNK_BYTES
        contents.append(content)
        room -= size
    if contents:
        yield rows.slice(start, len(contents)), contents


def patient_rows(
    source: Folder, file: str, version: str | None, numbers: list[int], limits: Limits
) -> Iterator[bytes | Exception]:
    """`rows_of_parquet`; when the storage does not answer, the file is opened again where it was left.

    What stays away while the file can be opened is at fault itself, row by row: those of a bad sector, say.
    """
    done, pause, end = 0, FIRST_PAUSE_S, time.monotonic() + limits.patience_s
    while done < len(numbers):
        for content in rows_of_parquet(source, file, version, numbers[done:], limits.image_column, limits.max_bytes):
            if is_unavailable(content) and time.monotonic() + pause <= end:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                break
            if is_unavailable(content) and row_group_ends(source, file):
                one = rows_of_parquet(source, file, version, [numbers[done]], limits.image_column, limits.max_bytes)
                yield own_fault(next(one))
                done += 1
                break
            if is_bytes(content):
                pause, end = FIRST_PAUSE_S, time.monotonic() + limits.patience_s
            done += 1
            yield content
