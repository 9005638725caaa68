"""Write the JSON schema of a verb's config, for editors and for checking files.

seit-ray schema pretrain --output pretrain.schema.json
seit-ray schema --all schemas/
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from seit_ray.config import Verb
from seit_ray.storage import Folder, split_uri
from seit_ray.verbs.command.arguments import VERBS, joined
from seit_ray.verbs.command.errors import telling
from seit_ray.verbs.command.looking import tool_parser

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def main(arguments: list[str]) -> None:
    """`seit-ray schema ...`."""
    parsed = parse(arguments)
    with telling("schema", debug=parsed.debug):
        if parsed.all:
            folder = Folder(parsed.all)
            for verb in VERBS:
                folder.write(f"{verb}.schema.json", text_of(verb).encode())
            print(f"{len(VERBS)} schemas in {folder.uri}")
        elif parsed.output:
            place, name = split_uri(parsed.output)
            Folder(place).write(name, text_of(parsed.verb).encode())
        else:
            print(text_of(parsed.verb), end="")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = tool_parser("schema", __doc__)
    parser.add_argument("verb", nargs="?", choices=VERBS, metavar="VERB", help=", ".join(VERBS))
    parser.add_argument("--output", metavar="FILE", help="write it here; to the terminal when left out")
    parser.add_argument("--all", metavar="DIR", help="write those of all verbs, as VERB.schema.json")
    parsed = parser.parse_intermixed_args(joined(arguments))
    if bool(parsed.verb) == bool(parsed.all):
        parser.error("VERB and --all; expected one of them")
    if parsed.all and parsed.output:
        parser.error("--output with --all; expected one of them")
    return parsed


def text_of(verb: str) -> str:
    """The schema as a file."""
    return json.dumps(schema_of(verb), indent=2) + "\n"


def schema_of(verb: str) -> dict[str, Any]:
    """The JSON schema of a verb's config files. No key is required of a file: others may come as key=value."""
    model: type[Verb] = VERBS[verb]
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    for values in (schema, *definitions.values()):
        for name in values.pop("required", ()):
            field = values["properties"][name]
            field["description"] = f"{field.get('description', '')} (required, here or as key=value)".strip()
        for field in values.get("properties", {}).values():
            field.pop("title", None)  # pydantic makes it of the name
            if any(kind.get("writeOnly") for kind in field.get("anyOf", ())):
                field["writeOnly"] = True
    return {"$schema": DIALECT, "title": f"seit-ray {verb}", **{k: v for k, v in schema.items() if k != "title"}}
