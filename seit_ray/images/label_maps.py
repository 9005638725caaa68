"""Label maps: a class for each pixel of an image. H x W pixels, C classes.

In a source a map is a PNG of 8 bits (grey or with a palette) whose values are classes in order, and one that is void.
Here, in token datasets and in memory it is uint8 [H,W] with the classes 0 to C - 1, and VOID for what is never counted.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image

from seit_ray.images.formats import ImageError, open_image

VOID = 255
MAX_CLASSES = 254
MAPS = "map_labels"  # of the metadata of rows of a manifest
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange width and height
_INDEXED = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L"})


@dataclass(frozen=True)
class MapLabels:
    """What the values of a source's maps mean: `void` and 255 are no class, the others are num_classes, in order."""

    num_classes: int
    void: int

    def __post_init__(self) -> None:
        if not 1 <= self.num_classes <= MAX_CLASSES or not 0 <= self.void <= 255:
            raise ValueError(
                f"{self.num_classes} classes of label maps with void {self.void}; expected 1 to {MAX_CLASSES} classes "
                "and a void of 0 to 255; correct source.class_names or source.void"
            )

    @property
    def last(self) -> int:
        """The highest value that is a class."""
        return self.num_classes - (self.num_classes - 1 < self.void)

    def value(self, label: int) -> int:
        """The source's value of a class, or of VOID."""
        return self.void if label == VOID else label + (label >= self.void)

    def classes_of(self, values: np.ndarray) -> np.ndarray:
        """Classes uint8 [H,W] of a map's values; ImageError for a value that is none."""
        known = np.full(256, VOID, np.uint8)
        for label in range(self.num_classes):
            known[self.value(label)] = label
        strange = {int(value) for value in (values.min(), values.max()) if not 0 <= value <= 255}
        if not strange:
            found = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
            strange = {*found.tolist()} - {*np.flatnonzero(known != VOID).tolist(), self.void, VOID}
        if strange:
            raise ImageError(
                f"label {min(strange)} in its label map; expected {self.value(0)} to {self.last}, or {self.void} for "
                "void; correct source.class_names, source.num_classes or source.void, or mend the map"
            )
        return known[values]

    def values_of(self, classes: np.ndarray) -> np.ndarray:
        """The source's values uint8 [H,W] of classes: the inverse."""
        values = np.full(256, self.void, np.uint8)
        values[: self.num_classes] = [self.value(label) for label in range(self.num_classes)]
        return values[classes]

    def words(self) -> str:
        """As the metadata of rows has it."""
        return f"{self.num_classes},{self.void}"


def map_labels_of(rows: pa.Table) -> MapLabels | None:
    """What the maps of rows of a manifest mean; None for rows without any."""
    found = (rows.schema.metadata or {}).get(MAPS.encode())
    return None if found is None else MapLabels(*map(int, found.decode().split(",")))


def read_map(data: bytes, labels: MapLabels, size: tuple[int, int]) -> np.ndarray:
    """Classes uint8 [H,W] of a map's file; ImageError unless it is one of `size`, its image's (width, height)."""
    try:
        try:
            image = open_image(data)
        except ImageError as error:
            raise ImageError(f"label map: {error}") from error
        if image.size != size:
            raise ImageError(
                f"label map of {image.width}x{image.height} pixels; expected {size[0]}x{size[1]}, the size of its "
                "image; mend it, or leave the image out"
            )
        if image.mode not in _INDEXED:
            raise ImageError(
                f"label map of mode {image.mode}; expected grey of 8 bits or a palette, whose values are classes; "
                "convert it"
            )
        values = np.asarray(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # the readers raise whatever a damaged file leads them to
        raise ImageError(f"label map: {' '.join(str(error).split()) or type(error).__name__}") from error
    return labels.classes_of(values.astype(np.int64))


def seen_size(data: bytes) -> tuple[int, int]:
    """(width, height) of an image as it is meant to be seen, from its header."""
    image = open_image(data)
    sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
    return (image.height, image.width) if sideways else image.size


def pack_map(classes: np.ndarray) -> bytes:
    """A map uint8 [H,W] as PNG, without loss, in its own size."""
    sink = io.BytesIO()
    Image.fromarray(classes).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def unpack_map(data: bytes) -> np.ndarray:
    """The inverse of `pack_map`; ValueError for other bytes."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            values = np.asarray(image)
    except Exception as error:  # the reader raises whatever a damaged file leads it to
        raise ValueError(f"label map cannot be read ({error}); expected a PNG; tokenise again") from error
    if values.dtype != np.uint8 or values.ndim != 2:
        raise ValueError(f"label map {values.dtype} {list(values.shape)}; expected uint8 [H,W]; tokenise again")
    return values


def squash_map(classes: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size,size] of a map [H,W]: of each pixel, the class in its middle, as images are squashed."""
    rows, columns = (middle_cells(side, size) for side in classes.shape)
    return classes[rows[:, None], columns]


def middle_cells(side: int, size: int) -> np.ndarray:
    """Of `side` cells those int64 [size] that lie in the middle of each of `size` equal parts."""
    return np.minimum(((np.arange(size) + 0.5) * side / size).astype(np.int64), side - 1)
