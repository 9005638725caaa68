"""The bytes of an image with those of its label map, and where both are read from: rows of the manifest of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from seit_ray.images.fetch import NO_BYTES
from seit_ray.images.formats import ImageError
from seit_ray.images.records import NO_MAP
from seit_ray.images.sources.addresses import address_in_parquet

Image = tuple[str, str, str | None]  # key, uri, version


class Pair(NamedTuple):
    """The encoded bytes of an image and of its label map."""

    image: bytes
    mask: bytes


Contents = Sequence[bytes | Pair | Exception]


def images_in(rows: pa.Table) -> list[Image]:
    """The images of rows of the manifest."""
    return list(zip(*(rows[name].to_pylist() for name in ("key", "uri", "version")), strict=True))


def maps_in(rows: pa.Table) -> list[Image]:
    """Their label maps."""
    return list(zip(*(rows[name].to_pylist() for name in ("key", "mask_uri", "mask_version")), strict=True))


def paired(contents: Contents, maps: Contents) -> Contents:
    """Images with their maps; of what cannot be had the error, the image's first."""
    return [pair_of(*pair) for pair in zip(contents, maps, strict=True)]


def pair_of(image: bytes | Pair | Exception, mask: bytes | Pair | Exception) -> Pair | Exception:
    """An image with its map, or what is wrong with one of them."""
    if isinstance(image, bytes) and isinstance(mask, bytes):
        return Pair(image, mask)
    if isinstance(image, Exception):
        return image
    assert isinstance(mask, Exception)  # neither of them is a pair
    text = str(mask)
    if not isinstance(mask, ImageError) or text.startswith((NO_MAP, "label map")):  # which says so itself
        return mask
    return ImageError(f"{NO_MAP if text.startswith(NO_BYTES) else 'label map'}: {text}")


def mask_column_of(rows: pa.Table) -> str:
    """The column of label maps in the rows of the Parquet file where the images are; '' for maps elsewhere."""
    uri, mask = (address_in_parquet(rows[name][0].as_py()) for name in ("uri", "mask_uri"))
    return mask.column if uri is not None and mask is not None and mask[:2] == uri[:2] else ""
