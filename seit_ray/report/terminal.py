"""The short table that a command prints when it is done."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[tuple[str, str]], title: str) -> str:
    """Lines of two aligned columns (name, value) under an underlined title, without a final newline.

    ASCII only, so that it reads the same in every terminal and log: other characters come out as backslash
    escapes, line breaks as spaces.
    """
    plain = [(_ascii(name), _ascii(value)) for name, value in rows]
    width = max((len(name) for name, _ in plain), default=0)
    lines = [f"{name:<{width}}  {value}".rstrip() for name, value in plain]
    heading = _ascii(title)
    rule = "-" * max([len(heading), *map(len, lines)])
    return "\n".join([heading, rule, *lines])


def _ascii(text: str) -> str:
    """text on one line, in ASCII."""
    return " ".join(str(text).split()).encode("ascii", "backslashreplace").decode("ascii")
