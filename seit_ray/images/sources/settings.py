"""What is said of a source: its layout, and which column holds what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Columns:
    """Which column holds what; label and split may be absent under these names, not under others."""

    label: str = "label"
    uri: str = "uri"
    image: str = "image"
    split: str = "split"


@dataclass(frozen=True)
class SourceSettings:
    """Layout and columns of a source; fields as in `config.Source`."""

    kind: str = "auto"
    label_column: str = Columns.label
    uri_column: str = Columns.uri
    image_column: str = Columns.image
    split_column: str = Columns.split

    @property
    def columns(self) -> Columns:
        """The columns by what they hold."""
        return Columns(self.label_column, self.uri_column, self.image_column, self.split_column)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they are stored."""
        return asdict(self)
