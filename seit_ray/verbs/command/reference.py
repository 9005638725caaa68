"""docs/reference.md: every verb, every key with type, default and meaning, and the tools; made from the config models.

python -m seit_ray.verbs.command.reference > docs/reference.md
python -m seit_ray.verbs.command.reference --check
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seit_ray.config import Section, Verb, type_name
from seit_ray.config.keys import section_of
from seit_ray.config.loading import flow
from seit_ray.verbs.command.arguments import DEFAULT_CONFIGS, TOOLS, VERBS, fail

FILE = Path(__file__).resolve().parents[3] / "docs" / "reference.md"
COMMAND = "python -m seit_ray.verbs.command.reference > docs/reference.md"
HEAD = f"""# Reference

All commands and all keys, with types, defaults and meanings. Generated from the config models by
`{COMMAND}`: do not edit.

A command is `seit-ray VERB key=value ...`. Keys are dotted (`loop.epochs=20`); values are YAML (`grid=[16,16]`, an
empty one is none). They can also stand in YAML files, and an unknown key is an error. Every verb has the sections
[`storage`](#storage) and [`cluster`](#cluster), beside those that it names, and these options:

| option | meaning |
|---|---|
| `--config FILE` | YAML file of keys, or the name of a recipe; later ones win, and `key=value` over all |
| `--dry-run` | check everything, print what would be done, do nothing |
| `--write-config FILE` | with `--dry-run`: write all keys as they come out (YAML) |
| `--address ADDRESS` | Ray cluster; default `RAY_ADDRESS`, or a local Ray |
| `--debug` | show tracebacks and the logs of Ray's workers |
| `--help` | the verb's keys |

Exit status: see [guide.md](guide.md).
"""
TABLE = ["| key | type | default | meaning |", "|---|---|---|---|"]
Sections = dict[str, type[Section]]  # by name


def reference() -> str:
    """The page."""
    sections: Sections = {}
    verbs = [line for verb in VERBS for line in verb_lines(verb, sections)]
    described = [line for name in sorted(sections) for line in section_lines(sections[name])]
    tools = [line for tool in TOOLS for line in tool_lines(tool)]
    text = "Groups of keys that verbs share."
    parts = [HEAD, "## Verbs\n", *verbs, "## Sections\n", text + "\n", *described, "## Tools\n", *tools]
    return "\n".join(parts).rstrip() + "\n"


def verb_lines(verb: str, sections: Sections) -> Iterator[str]:
    """A verb's own keys and its sections, which are entered in `sections`."""
    yield f"### {verb}\n\n{VERBS[verb].__doc__}\n"
    if verb in DEFAULT_CONFIGS:
        yield f"Without `--config` it takes the recipe `{DEFAULT_CONFIGS[verb]}`.\n"
    own, shared = list[str](), list[str]()
    for key, name, section, default in walk(VERBS[verb], None):
        if not isinstance(default, Section):
            own.append(key_row(key, section, name, default))
            continue
        sections |= {parent.__name__: parent for parent in lineage(type(default))}
        if key not in Verb.model_fields:
            shared.append(f"[`{key}`](#{type(default).__name__.lower()})")
    yield "\n".join([*TABLE, *own]) + "\n"
    if shared:
        yield f"Sections: {', '.join(shared)}.\n"


def walk(section: type[Section], default: Any, prefix: str = "") -> Iterator[tuple[str, str, type[Section], Any]]:
    """(dotted key, name, the section it is in, default) of plain keys and of sections; of those in sections too."""
    for name, info in section.model_fields.items():
        inner = section_of(info.annotation)
        value = getattr(default, name) if default is not None else info.get_default(call_default_factory=True)
        if inner is not None and any(section_of(field.annotation) for field in inner.model_fields.values()):
            yield from walk(inner, value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", name, section, value


def key_row(key: str, section: type[Section], name: str, default: Any) -> str:
    """The line of a key in a table."""
    info = section.model_fields[name]
    kind = type_name(info.annotation).replace("typing.", "")
    shown = "**required**" if info.is_required() else "" if default is None else code(flow_of(default))
    return f"| `{key}` | {code(kind)} | {shown} | {escaped(info.description or '')} |"


def section_lines(section: type[Section]) -> Iterator[str]:
    """A section: its keys; of one that is made of another, what it adds and the defaults in which it differs."""
    yield f"### {section.__name__}\n\n{section.__doc__}\n"
    base, *_ = [*lineage(section)[1:], None]
    fields, before = section.model_fields, base.model_fields if base else {}
    new = [name for name in fields if name not in before or before[name].annotation != fields[name].annotation]
    if base:
        changed = {n: fields[n].default for n in fields if n not in new and fields[n].default != before[n].default}
        link = f"[{base.__name__}](#{base.__name__.lower()})"
        yield f"The keys of {link}{with_values(changed)}{', and' if new else '.'}\n"
    if new:
        yield "\n".join([*TABLE, *(key_row(name, section, name, fields[name].default) for name in new)]) + "\n"


def lineage(section: type[Section]) -> list[type[Section]]:
    """A section and those that it is made of."""
    return [parent for parent in section.__mro__ if issubclass(parent, Section) and parent is not Section]


def tool_lines(tool: str) -> Iterator[str]:
    """A tool, in the words of its module."""
    first, _, usage = (importlib.import_module(f"seit_ray.verbs.{tool}").__doc__ or "").partition("\n\n")
    yield f"### {tool}\n\n{first} `seit-ray {tool} --help` has its options.\n"
    yield f"```\n{usage.strip()}\n```\n"


def with_values(values: dict[str, Any]) -> str:
    """Values for the end of a name; nothing where there are none."""
    return f" with {', '.join(code(f'{key}={flow_of(value)}') for key, value in values.items())}" if values else ""


def flow_of(value: Any) -> str:
    """A default as one would type it."""
    return flow(list(value) if isinstance(value, tuple) else value)


def code(text: str) -> str:
    """text as code in a table."""
    return f"`{escaped(text)}`" if text else ""


def escaped(text: str) -> str:
    """text for the cell of a table."""
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> None:
    """Print the page, or check the one that is there."""
    if arguments not in ([], ["--check"]):
        fail(f"arguments {' '.join(arguments)}; expected none, or --check; correct them")
    if not arguments:
        print(reference(), end="")
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != reference():
        fail(f"{FILE} is stale; expected what the config models say; run {COMMAND}")


if __name__ == "__main__":
    main(sys.argv[1:])
