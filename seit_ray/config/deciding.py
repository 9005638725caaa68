"""Which keys decide a result. Every key does, unless its section says otherwise: a new one cannot be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticUndefined

from seit_ray.config.keys import fields, section_of
from seit_ray.config.sections import Section


def deciding_keys(section: type[Section], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(key in dotted form, whether it is the address of a folder or file) of all keys that decide a result."""
    for name, info in section.model_fields.items():
        if name in section.undecided:
            continue
        inner = section_of(info.annotation)
        if inner is None:
            yield prefix + name, name in section.places
        else:
            yield from deciding_keys(inner, f"{prefix}{name}.")


def deciding(config: Section) -> dict[str, Any]:
    """Key in dotted form -> value as JSON has it, of all keys that decide a result."""
    values = config.model_dump(mode="json")
    return {key: value_at(values, key) for key, _ in deciding_keys(type(config))}


def defaults(section: type[Section]) -> dict[str, Any]:
    """Key in dotted form -> its default as JSON has it; keys that are required have none."""
    found = {key: default for key, (_, _, default) in fields(section) if default is not PydanticUndefined}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def value_at(values: Any, key: str) -> Any:
    """The value at a key in dotted form."""
    for part in key.split("."):
        values = values[part]
    return values
