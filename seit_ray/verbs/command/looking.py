"""What the tools that only look share: their words, mistakes in one line, tables of several columns, times."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from seit_ray import config as configs
from seit_ray.verbs.command.arguments import Parser

STORAGE_HELP = "storage.endpoint_url=URL and the other keys of storage, as verbs take them"


def tool_parser(tool: str, description: str | None) -> Parser:
    """The command line of a tool, with what all have."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=f"seit-ray {tool}", description=description, formatter_class=form)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def places_and_storage(words: Sequence[str]) -> tuple[list[str], configs.Storage]:
    """(the folders, the storage section) among the words of a command; ValueError for a key that it has not."""
    keys = [word for word in words if word.startswith(("storage.", "storage=")) and "=" in word]
    return [word for word in words if word not in keys], configs.load(configs.Verb, [], keys).storage


def grid(rows: Sequence[Sequence[str]], title: str) -> str:
    """Lines of aligned columns, the first row their heads, under an underlined title: `table` of any width."""
    plain = [[ascii_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in plain]
    heading = ascii_line(title)
    return "\n".join([heading, "-" * max(map(len, [heading, *lines])), *lines])


def ascii_line(text: str) -> str:
    """text on one line, in ASCII."""
    return " ".join(str(text).split()).encode("ascii", "backslashreplace").decode("ascii")


def utc(seconds: float) -> str:
    """A time for a table."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
