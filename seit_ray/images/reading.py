"""Rows of the manifest and their encoded bytes, some at a time: as many as memory allows, whatever the images.

A chunk is at most CHUNK_ROWS images, whose bytes and whose pixels are at most CHUNK_BYTES each, but for a single one
that is larger. A Parquet file is read on where the chunk before ended: each of its row groups once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from seit_ray.images.decode import ImageError
from seit_ray.images.fetch import Cells, fetch_images, row_group_ends, rows_of_parquet
from seit_ray.images.pairs import Contents, Image, Pair, images_in, maps_in, mask_column_of, pair_of, paired
from seit_ray.images.records import unusable_reason
from seit_ray.images.sources.addresses import address_in_parquet
from seit_ray.images.sources.tars import ADDRESS
from seit_ray.storage import Folder, StorageError, host_of, is_remote, storage_of
from seit_ray.storage.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S

CHUNK_ROWS, CHUNK_BYTES = 256, 64 << 20
UNKNOWN_BYTES = 8 << 20  # taken for an image whose size the source does not tell
HOST_PATIENCE_S = 10.0  # with a server of https:// addresses, while others answer: among many, some are gone

Chunk = tuple[pa.Table, Contents]
Readable = dict[str, Image]  # of each storage an image or a label map that could be read


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

    In a source of pairs, where limits.masks asks for them, a `Pair` in place of the bytes; of what cannot be had the
    error, the image's first.
    """
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
        here, row = (address.file, address.row) if address is not None else (None, -1)
        if place and (here != file or (here is not None and row <= last)):
            yield start, place, file
            start = place
        file, last = here, row
    if uris:
        yield start, len(uris), file


def chunks_of_objects(rows: pa.Table, source: Folder, limits: Limits, most: int) -> Iterator[Chunk]:
    """Of images in objects of their own and in tars: as many as their listed sizes allow, with their maps."""
    is_paired = asks_for_maps(rows, limits)
    sizes = sizes_of(rows, limits, is_paired=is_paired)
    start, readable = 0, Readable()
    while start < len(sizes):
        stop, room = start + 1, CHUNK_BYTES - sizes[start]
        while stop < min(len(sizes), start + most) and sizes[stop] <= room:
            room -= sizes[stop]
            stop += 1
        chunk = rows.slice(start, stop - start)
        wanted = [*images_in(chunk), *(maps_in(chunk) if is_paired else [])]  # of a tar both are read together
        contents = fetch_patiently(wanted, source, limits, readable)
        yield chunk, paired(contents[: len(chunk)], contents[len(chunk) :]) if is_paired else contents
        start = stop


def asks_for_maps(rows: pa.Table, limits: Limits) -> bool:
    """Whether images are read with their label maps."""
    return limits.masks and "mask_uri" in rows.column_names


def sizes_of(rows: pa.Table, limits: Limits, *, is_paired: bool) -> list[int]:
    """Bytes of each image, with its map: in a tar as listed, elsewhere no larger than the image is taken to be."""
    sizes = [
        UNKNOWN_BYTES if size is None else min(size, limits.max_bytes)  # a larger one is not read
        for size in rows["size_bytes"].to_pylist()
    ]
    if not is_paired:
        return sizes
    in_tars = (ADDRESS.fullmatch(uri) for uri in rows["mask_uri"].to_pylist())
    maps = zip(sizes, in_tars, strict=True)
    return [size + (size if found is None else min(int(found[3]), limits.max_bytes)) for size, found in maps]


def fetch_patiently(images: list[Image], source: Folder, limits: Limits, readable: Readable) -> list[bytes | Exception]:
    """Bytes or an error for each; what a storage does not give is asked for again.

    readable: of each storage an image that could be read before; those of now are added. What stays away while that one
    comes is at fault itself; so is, soon, the server of an https:// address while another answers.
    """
    contents = fetch(images, source, limits)
    pause, start = FIRST_PAUSE_S, time.monotonic()
    end = start + limits.patience_s
    while missing := [place for place, content in enumerate(contents) if is_unavailable(content)]:
        on_servers = any(host_of(images[place][1]) for place in missing)
        if on_servers and time.monotonic() + pause > start + HOST_PATIENCE_S:
            contents = without_gone_hosts(images, contents, still_readable(readable, source, limits))
            missing = [place for place in missing if is_unavailable(contents[place])]
        if not missing or time.monotonic() + pause > end:
            break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
        for place, content in zip(missing, fetch([images[place] for place in missing], source, limits), strict=True):
            contents[place] = content
    found = [image for image, content in zip(images, contents, strict=True) if is_bytes(content)]
    readable |= {storage_of(image[1]): image for image in reversed(found)}  # the first of each
    answering = still_readable(readable, source, limits) if missing else []
    if lost := [place for place in missing if any(tells_of(uri, images[place][1]) for _, uri, _ in answering)]:
        # once more, as the storage may have come back just now
        for place, content in zip(lost, fetch([images[place] for place in lost], source, limits), strict=True):
            contents[place] = own_fault(content)
    return contents


def still_readable(readable: Readable, source: Folder, limits: Limits) -> list[Image]:
    """Those that can be read just now."""
    return [image for image in readable.values() if is_bytes(fetch([image], source, limits)[0])]


def tells_of(answering: str, missing: str) -> bool:
    """Whether what comes shows that what does not come is at fault itself: both of one storage, or one of a server."""
    return storage_of(answering) == storage_of(missing) or (host_of(missing) is not None and is_remote(answering))


def without_gone_hosts(
    images: list[Image], contents: list[bytes | Exception], seen: Sequence[Image]
) -> list[bytes | Exception]:
    """An ImageError in place of what a server of https:// addresses did not give while another one answered.

    seen: images of earlier chunks that can be read just now.
    """
    hosts = [host_of(uri) for _, uri, _ in images]
    came = [uri for (_, uri, _), content in zip(images, contents, strict=True) if is_answer(uri, content)]
    answering = {host_of(uri) for uri in [*came, *(uri for _, uri, _ in seen if is_remote(uri))]}
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


def is_answer(uri: str, content: bytes | Exception) -> bool:
    """Whether a storage on the network has answered."""
    return is_remote(uri) and unusable_reason(uri) is None and not is_unavailable(content)


def is_bytes(content: bytes | Exception) -> bool:
    """Whether it came."""
    return isinstance(content, bytes)


def chunks_of_parquet(rows: pa.Table, file: str, source: Folder, limits: Limits, most: int) -> Iterator[Chunk]:
    """Of ascending rows of one Parquet file; label maps in a column of it are read with them, others by chunks."""
    numbers = [address.row for uri in rows["uri"].to_pylist() if (address := address_in_parquet(uri)) is not None]
    version, is_paired = rows["version"][0].as_py(), asks_for_maps(rows, limits)
    column = mask_column_of(rows) if is_paired else ""
    columns = [limits.image_column, *([column] if column else [])]

    def chunk(start: int, contents: list[bytes | Pair | Exception]) -> Chunk:
        some = rows.slice(start, len(contents))
        if column or not is_paired:
            return some, contents
        return some, paired(contents, fetch_patiently(maps_in(some), source, limits, readable))

    start, contents, room, readable = 0, list[bytes | Pair | Exception](), CHUNK_BYTES, Readable()
    for cells in patient_rows(source, file, version, numbers, columns, limits):
        size = sum(len(cell) for cell in cells if isinstance(cell, bytes))
        if contents and (len(contents) == most or size > room):
            yield chunk(start, contents)
            start, contents, room = start + len(contents), [], CHUNK_BYTES
        contents.append(pair_of(*cells) if column else cells[0])
        room -= size
    if contents:
        yield chunk(start, contents)


def patient_rows(
    source: Folder, file: str, version: str | None, numbers: list[int], columns: list[str], limits: Limits
) -> Iterator[Cells]:
    """`rows_of_parquet`; when the storage does not answer, the file is opened again where it was left.

    What stays away while the file can be opened is at fault itself, row by row: those of a bad sector, say.
    """
    done, pause, end = 0, FIRST_PAUSE_S, time.monotonic() + limits.patience_s
    while done < len(numbers):
        for cells in rows_of_parquet(source, file, version, numbers[done:], columns, limits.max_bytes):
            if is_unavailable(cells[0]) and time.monotonic() + pause <= end:  # of all columns, as they come together
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                break
            if is_unavailable(cells[0]) and row_group_ends(source, file):
                one = rows_of_parquet(source, file, version, [numbers[done]], columns, limits.max_bytes)
                yield tuple(map(own_fault, next(one)))
                done += 1
                break
            if any(map(is_bytes, cells)):
                pause, end = FIRST_PAUSE_S, time.monotonic() + limits.patience_s
            done += 1
            yield cells
