"""Addresses: in Parquet files, and those that cells of a table give of images and, with their versions, of label maps.

What a table in a bucket may name are objects there and elsewhere, not files of the machines that read it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from seit_ray.images.records import no_map, unusable, unusable_reason
from seit_ray.images.sources.division import Seen
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.images.sources.tars import ADDRESS
from seit_ray.storage import Folder, StorageError, host_of, is_remote, split_uri

TOGETHER, REQUESTS = 256, 32  # maps whose versions are asked for together, and in a bucket at once
_ROW = re.compile(r"(.*\.parquet)#(\d+)(?::(.+))?", re.IGNORECASE | re.DOTALL)


class RowAddress(NamedTuple):
    """A row of a Parquet file; column '' is that of images."""

    file: str
    row: int
    column: str


def address_in_parquet(uri: str) -> RowAddress | None:
    """Of an image in a Parquet file, or of a label map there; None for others."""
    found = _ROW.fullmatch(uri) if "#" in uri else None
    return None if found is None else RowAddress(found[1], int(found[2]), found[3] or "")


def file_of(uri: str) -> str:
    """The uri of the object that an image or label map is in: a Parquet file, a tar, or its own."""
    in_parquet, in_tar = address_in_parquet(uri), ADDRESS.fullmatch(uri) if "#" in uri else None
    if in_parquet is not None:
        return in_parquet.file
    return uri if in_tar is None else in_tar[1]


def address_of(written: str, folder: Folder, settings: SourceSettings) -> tuple[str, str | None]:
    """(address, why it cannot be read) of what a table in a folder says.

    One https:// address that is none is that image's fault, not the table's.
    """
    try:
        uri = folder.resolve(written)
    except StorageError as error:
        if error.kind != "refused":
            raise
        return written, str(error)
    if folder.is_remote and not is_remote(uri) and not settings.allow_files:
        return uri, (
            f"{uri} is a file of the machine that reads it; expected an object, as the table lies in a bucket; set "
            "source.allow_files=true to read files"
        )
    return uri, None


def map_address(written: object, where: str, folder: Folder, settings: SourceSettings) -> str:
    """The uri of the label map that a cell names, or the reason why there is none; ValueError for what is no text."""
    if written is None or written != written:
        written = ""
    if not isinstance(written, str):
        raise ValueError(f"label map {written!r} in {where}; expected an address; correct source.mask_column")
    if not written.strip():
        return no_map(f"its cell in column {settings.columns.mask!r} is empty")
    uri, fault = address_of(written, folder, settings)
    return uri if fault is None else unusable(f"label map: {fault}")


def with_versions(images: Iterator[Seen], folder: Folder) -> Iterator[Seen]:
    """The images with the versions of the label maps at the addresses they say; of a map that is not there a reason.

    In buckets a request a map; servers of https:// addresses are not asked: what they say of versions cannot be relied
    on. Nor are files that a table in a bucket names, which need not be on the machine that lists.
    """
    if not folder.is_remote:
        yield from (_with_version(image, folder) for image in images)
        return
    with ThreadPoolExecutor(REQUESTS, "versions") as pool:
        while some := list(itertools.islice(images, TOGETHER)):
            yield from pool.map(partial(_with_version, folder=folder), some)


def _with_version(image: Seen, folder: Folder) -> Seen:
    uri = image.mask
    if uri is None or unusable_reason(uri) is not None or host_of(uri) or (folder.is_remote and not is_remote(uri)):
        return image
    place, name = split_uri(file_of(uri))
    try:
        version = folder.at(place).version(name)
    except StorageError as error:
        if error.kind in ("unavailable", "credentials"):
            raise
        return image  # whoever reads it will say
    return image._replace(mask_version=version) if version else image._replace(mask=no_map(f"there is no {uri}"))
