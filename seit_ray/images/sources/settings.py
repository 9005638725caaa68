"""What is said of a source: its layout, which column holds what, and which images of it count."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from seit_ray.images.sources.names import chosen_suffixes, one_form
from seit_ray.images.sources.pairing import Pairing

EXCLUDED = "excluded by source.include or source.exclude"
MASK = "mask"  # the column of label maps, and their extensions in tars, where source.mask_column names none
MAP_EXTENSIONS = ("seg.png", "mask.png")


@dataclass(frozen=True)
class Columns:
    """Which column holds what; label and split may be absent under these names, not under others; '' is none."""

    label: str = "label"
    uri: str = "uri"
    image: str = "image"
    split: str = "split"
    key: str = ""
    mask: str = ""


@dataclass(frozen=True)
class SourceSettings:
    """Layout and columns of a source; fields as in `config.Source`."""

    kind: str = "auto"
    label_column: str = Columns.label
    uri_column: str = Columns.uri
    image_column: str = Columns.image
    split_column: str = Columns.split
    key_column: str = Columns.key
    suffixes: tuple[str, ...] | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int | None = None
    inventory: str | None = None
    find_splits: bool = True
    class_names: str | None = None
    allow_files: bool = False
    white_level: int | None = None
    listing: str | None = None
    masks: str | None = None
    void: int | None = None
    num_classes: int | None = None
    mask_column: str = ""

    @property
    def columns(self) -> Columns:
        """The columns by what they hold; with label maps none holds labels."""
        label, mask = self.label_column, self.mask_column
        if self.has_maps:
            label, mask = "", mask or (MASK if self.masks is None else "")
        return Columns(label, self.uri_column, self.image_column, self.split_column, self.key_column, mask)

    @property
    def image_suffixes(self) -> frozenset[str]:
        """Suffixes of the files that are images."""
        return chosen_suffixes(self.suffixes)

    @property
    def has_maps(self) -> bool:
        """Whether the images have label maps in place of labels."""
        return bool(self.mask_column) or any(value is not None for value in (self.masks, self.void, self.num_classes))

    @property
    def pairing(self) -> Pairing | None:
        """Which label map belongs to which image by their names; None where each image says its own, or has none."""
        return None if self.masks is None else Pairing.of(self.masks)

    @property
    def map_extensions(self) -> tuple[str, ...]:
        """How the names of label maps in tars end, behind the key of their sample and a dot; () for none."""
        if not self.has_maps:
            return ()
        return (self.mask_column.lower().lstrip("."),) if self.mask_column else MAP_EXTENSIONS

    def takes_file(self, name: str, left_out: Counter[str]) -> bool:
        """Whether the patterns let the images of a Parquet file or tar pass: source.exclude may name it; counts it."""
        if matches(one_form(name), self.exclude):
            left_out[EXCLUDED] += 1
            return False
        return True

    def takes(self, key: str) -> bool:
        """Whether the patterns let an image of this key pass."""
        if self.include and not matches(key, self.include):
            return False
        return not matches(key, self.exclude)

    def as_dict(self) -> dict[str, Any]:
        """Plain values of what decides, as they are stored; what came later than the columns only where it was set."""
        values = asdict(replace(self, listing=None))
        later = [field for field in fields(self) if field.name not in _ALWAYS]
        for field in later:
            if values[field.name] == field.default:
                del values[field.name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


_ALWAYS = frozenset({"kind", "label_column", "uri_column", "image_column", "split_column"})


def matches(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns of file names, with *, ? and [], fits the whole key; * passes slashes."""
    return any(fnmatchcase(key, one_form(pattern)) for pattern in patterns)
