"""Columns and cells that say label and split, whatever the file."""

from __future__ import annotations

from seit_ray.images.records import missing_column
from seit_ray.images.sources.settings import Columns


def checked_label(label: object, where: str) -> str | int | None:
    """A label that a file of values gives; ValueError for values that cannot be one."""
    if label is None or isinstance(label, str | int):
        return int(label) if isinstance(label, bool) else label
    raise ValueError(
        f"label of type {type(label).__name__} in {where}; expected an integer or a string; convert the column"
    )


def text_label(text: str | None) -> str | int | None:
    """An integer where the text is one in its shortest form ('7', not '07'), so that no classes merge."""
    try:
        return int(text) if text and str(int(text)) == text else text or None
    except ValueError:
        return text


def present_columns(found: list[str], uri: str, columns: Columns, needed: str) -> dict[str, str]:
    """Field -> column, for the needed field and for label and split where they are there; else ValueError."""
    fields = {needed: getattr(columns, needed)}
    for field in ("label", "split"):
        column = getattr(columns, field)
        if column in found or column != getattr(Columns, field):
            fields[field] = column
    for field, column in fields.items():
        if column not in found:
            raise missing_column(column, uri, found, f"{field}_column")
    return fields
