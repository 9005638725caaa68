"""The keys of a verb in dotted form, with type, meaning and default: for --help, and for naming mistakes."""

from __future__ import annotations

import functools
import types
import typing
from typing import Annotated, Any, Literal

from pydantic import SecretStr

from seit_ray.config.sections import Section


def section_of(annotation: Any) -> type[Section] | None:
    """The section class inside an annotation, if it is one."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


@functools.cache
def fields(section: type[Section]) -> tuple[tuple[str, tuple[Any, str, Any]], ...]:
    """Every key of a section in dotted form: (key, (type, description, default))."""
    found: list[tuple[str, tuple[Any, str, Any]]] = []
    for name, info in section.model_fields.items():
        inner = section_of(info.annotation)
        if inner is None:
            found.append((name, (info.annotation, info.description or "", info.default)))
        else:
            default = info.get_default(call_default_factory=True)
            for key, (kind, text, _) in fields(inner):
                found.append((f"{name}.{key}", (kind, text, _value_at(default, key))))
    return tuple(found)


@functools.cache
def secret_keys(verb: type[Section]) -> tuple[str, ...]:
    """The keys that are secrets, in dotted form."""
    return tuple(name for name, (kind, _, _) in fields(verb) if SecretStr in (kind, *typing.get_args(kind)))


def holds_secret(verb: type[Section], key: str) -> bool:
    """Whether a key in dotted form is a secret or a section with one; its value is never shown."""
    return any(f"{name}.".startswith(f"{key}.") for name in secret_keys(verb))


def is_text(verb: type[Section], key: str) -> bool:
    """Whether the value of a key in dotted form is text, or nothing."""
    kind = dict(fields(verb)).get(key, (None, "", None))[0]
    return {*(typing.get_args(kind) or (kind,))} - {types.NoneType} in ({str}, {SecretStr})


def _value_at(section: Any, key: str) -> Any:
    for part in key.split("."):
        section = getattr(section, part)
    return section


def type_name(annotation: Any) -> str:
    """A type as a person writes it: int, a|b, str (or empty)."""
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return "|".join(typing.get_args(annotation))
    if origin is Annotated:
        return type_name(typing.get_args(annotation)[0])
    if origin in (types.UnionType, typing.Union):
        return "|".join(type_name(a) for a in typing.get_args(annotation) if a is not type(None))
    if origin is tuple:
        return f"[{','.join('...' if a is Ellipsis else type_name(a) for a in typing.get_args(annotation))}]"
    if annotation is SecretStr:
        return "secret"
    return getattr(annotation, "__name__", str(annotation)) if origin is None else str(annotation)
