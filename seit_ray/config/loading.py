"""From a YAML file and key=value overrides to a verb's model; every mistake is named in one line."""

from __future__ import annotations

import copy
import difflib
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from seit_ray.config.keys import fields, holds_secret, is_text
from seit_ray.config.sections import Section
from seit_ray.config.turned_off import turn_off
from seit_ray.config.verbs import Verb

MERGE = "tag:yaml.org,2002:merge"
RECIPES = Path(__file__).resolve().parent.parent / "recipes"


class OnceLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake: the second would silently take the place of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; ConstructorError for a key that stands twice."""
        given = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and given.count(key.value) > 1:
                words = f"key {key.value} stands twice; expected it once, with all that is in it"
                raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)
        return super().construct_mapping(node, deep)


def load(verb: type[Verb], files: Sequence[str], overrides: Sequence[str]) -> Any:
    """Lay a verb's YAML files and `key.sub=value` overrides over each other, validate; ValueError names each bad key.

    A file is a path, or the name of a recipe with or without .yaml.
    """
    layers = [read_yaml(str(config_file(file))) for file in files]
    values: dict[str, Any] = {}
    for layer in layers:
        lay_over(values, layer)
    given: dict[str, Any] = {}
    for text in overrides:
        key, sep, value = text.partition("=")
        if not sep or not key:
            raise ValueError(f"argument {text!r}; expected key=value; see --help for the keys")
        for place in (given, values):
            set_key(place, key.split("."), parse_value(verb, key, value), joined=True)
    turn_off(values, [*layers, given])
    try:
        return verb.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(explain(verb, e) for e in error.errors())) from None


def config_file(name: str) -> Path:
    """The path of a config file: as named, else the recipe of that name; ValueError when there is neither."""
    path, recipe = Path(name), RECIPES / f"{name.removesuffix('.yaml')}.yaml"
    if recipe.is_file() and not path.is_file():  # a folder of that name is none that was meant
        return recipe
    if path.exists() or "/" in name:
        return path
    known = sorted(file.stem for file in RECIPES.glob("*.yaml") if file.stem != "prices")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"recipes are {', '.join(known)}"
    raise ValueError(f"config file {name}: no such file or recipe; expected a readable YAML file; {hint}")


def lay_over(values: dict[str, Any], more: dict[str, Any]) -> None:
    """Put keys over others, in place; sections are joined, everything else is replaced."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict) and key != "space":
            lay_over(values[key], value)
        else:
            values[key] = copy.deepcopy(value)  # which a later layer changes in place


def write(config: Verb, file: str) -> None:
    """Write all keys of a verb as YAML that `load` reads back; secrets are left out, they belong to the environment."""
    secret = {key.partition(".")[2] for key, _ in fields(type(config)) if holds_secret(type(config), key)}
    values = config.model_dump(mode="json", exclude={"storage": secret})
    head = f"# All keys of {type(config).__name__}, as they came out on {time.strftime('%Y-%m-%d', time.gmtime())}.\n"
    try:
        Path(file).write_text(head + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"file {file}: {error.strerror}; expected a path that can be written; choose another"
        ) from None


def parse_value(verb: type[Verb], key: str, text: str) -> Any:
    """The value of an override, read as YAML; None when it is empty. Of a key of text, 007 and true are text."""
    try:
        value = yaml.load(text, Loader=OnceLoader) if text else None
        return text if isinstance(value, int | float | date) and is_text(verb, key) else value
    except yaml.YAMLError:
        raise ValueError(
            f"key {key} has a value that is not YAML; expected a number, text or a list; quote it"
        ) from None


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=sys.maxsize).removesuffix("...\n").strip()


def read_yaml(file: str) -> dict[str, Any]:
    """A YAML mapping; ValueError when it is missing or something else."""
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=OnceLoader)
    except OSError as error:
        raise ValueError(f"config file {file}: {error.strerror}; expected a readable YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config file {file} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"config file {file} holds a {type(values).__name__}; expected a mapping of keys")
    return values


def set_key(values: dict[str, Any], path: list[str], value: Any, *, joined: bool = False) -> None:
    """Set a nested key in place. joined: a section is laid over what is there, as in files."""
    for name in path[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ValueError(f"key {'.'.join(path)}: {name} holds a value; expected a section")
        values = inner
    if joined:
        lay_over(values, {path[-1]: value})
    else:
        values[path[-1]] = value


def explain(verb: type[Section], error: Any) -> str:
    """One line for one pydantic error, with the nearest known name for an unknown key."""
    key, names = ".".join(str(part) for part in error["loc"]), dict(fields(verb))
    if error["type"] == "extra_forbidden":
        if key in names:  # written with its dots, in a file
            section, _, name = key.rpartition(".")
            return f"key {key} in a file; expected {name} below {section.replace('.', ', below ')}; nest it"
        known = {*names, *(name.rpartition(".")[0] for name in names)} - {""}
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) or [
            n for n in names if n.rpartition(".")[2] == error["loc"][-1]
        ]
        return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "; see --help for the keys")
    if error["type"] == "missing" and key in names:
        return f"key {key} is missing; expected {key}=VALUE ({names[key][1]})"
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and (not key or key not in names):  # of a whole section, which says it itself
        return (f"{key}: " if key else "") + said
    given = "hidden" if holds_secret(verb, key) else repr(error["input"])
    return f"key {key} is {given}; expected: {said}"
