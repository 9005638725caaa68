"""Names of classes from a file: a list of them in the order of their numbers, or a name for each label."""

from __future__ import annotations

import json
import re
from collections import Counter

from seit_ray.images.sources.names import one_form
from seit_ray.storage import Folder, split_uri

_WORDNET = re.compile(r"n\d{8}[ \t]")  # lines such as 'n01440764 tench, Tinca tinca'
MAX_BYTES = 64 << 20


def read_class_names(uri: str, source: Folder) -> list[str] | dict[str, str]:
    """Of text with a name a line, or JSON: a list; of lines 'label<TAB>name', 'n01440764 name', or JSON: a mapping."""
    folder, name = split_uri(uri)
    (data,) = source.at(folder).read_many([name], max_bytes=MAX_BYTES)
    if isinstance(data, Exception):
        raise data
    try:
        names = _parsed(data.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(
            f"class names {uri} cannot be read ({error}); expected a name a line, a JSON list of names, or a JSON "
            "mapping from label to name"
        ) from error
    twice = [name for name, count in Counter(names.values() if isinstance(names, dict) else names).items() if count > 1]
    if twice:
        raise ValueError(
            f"class names {uri} name several classes {', '.join(map(repr, twice[:3]))}; expected a name of its own for "
            "each, or they would become one; rename them"
        )
    return names


def _parsed(text: str) -> list[str] | dict[str, str]:
    if text.lstrip().startswith(("[", "{")):
        values = json.loads(text)
        if isinstance(values, dict):
            return {one_form(str(label)): one_form(_name(value)) for label, value in values.items()}
        return [one_form(_name(value)) for value in values]
    lines = [one_form(line.strip()) for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("no names")
    for pattern in ("\t", r"[ \t]+"):
        if all(re.search(pattern, line) and (pattern == "\t" or _WORDNET.match(line)) for line in lines):
            pairs = [re.split(pattern, line, maxsplit=1) for line in lines]
            return {label.strip(): name.strip() for label, name in pairs}
    if gap := [i for i, line in enumerate(text.rstrip().splitlines(), 1) if not line.strip()]:
        raise ValueError(f"line {gap[0]} is empty, so that the number of each name behind it is not clear")
    return lines


def _name(value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return value[-1]  # ["n01440764", "tench"], as Keras keeps them
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no name")
    return value


def renamed(label: str | int | None, names: dict[str, str], uri: str) -> str | None:
    """The name of a label; ValueError for one that has none."""
    if label is None:
        return None
    if str(label) not in names:
        first = ", ".join(map(repr, list(names)[:4]))
        raise ValueError(
            f"label {label!r} has no name in {uri}; expected one of {len(names)}: {first}, ...; add it to that file, "
            "source.class_names"
        )
    return names[str(label)]
