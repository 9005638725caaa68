"""Columns and cells that say label, split and key, whatever the file."""

from __future__ import annotations

import math
import re

from seit_ray.images.records import missing_column
from seit_ray.images.sources.names import one_form
from seit_ray.images.sources.settings import Columns

_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")


class LabelError(ValueError):
    """What should be the label of an image and is none."""


def checked_label(label: object, where: str) -> str | int | None:
    """A label that a file of values gives; LabelError for values that cannot be one."""
    if isinstance(label, float) and (math.isnan(label) or label.is_integer()):
        return None if math.isnan(label) else int(label)  # how a column of integers with gaps is often stored
    if isinstance(label, str):
        return one_form(label)
    if label is None or isinstance(label, int):
        return int(label) if isinstance(label, bool) else label
    raise LabelError(
        f"label of type {type(label).__name__} in {where}; expected an integer or a string; convert the column"
    )


def text_label(text: str | None) -> str | int | None:
    """An integer where the text is one in its shortest form ('7' or '7.0', not '07'), so that no classes merge.

    None for an empty text and for 'nan', which is how the absent cells of a column of numbers are often written.
    """
    if not text or text.lower() == "nan":
        return None
    digits = _WHOLE.sub(r"\1", text)
    try:
        return int(digits) if str(int(digits)) == digits else one_form(text)
    except ValueError:
        return one_form(text)


def cell_key(value: object, where: str) -> str:
    """The key that a cell gives; ValueError for an empty one."""
    text = "" if value is None or value != value else str(value).strip()
    if not text:
        raise ValueError(f"key {value!r} in {where}; expected one for each image; set source.key_column or mend it")
    return one_form(text)


def present_columns(found: list[str], uri: str, columns: Columns, needed: str) -> dict[str, str]:
    """Field -> column, for the needed field, label maps, and label, split and key where they are; else ValueError."""
    fields = {needed: getattr(columns, needed)}
    if columns.mask:
        fields["mask"] = columns.mask
    for field in ("label", "split", "key"):
        column = getattr(columns, field)
        if column and (column in found or column != getattr(Columns, field)):
            fields[field] = column
    for field, column in fields.items():
        if column not in found:
            raise missing_column(column, uri, found, f"{field}_column")
    return fields
