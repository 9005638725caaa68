"""A fault of the program: its last line on the terminal, all of it beside the run."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

from seit_ray.config import Verb
from seit_ray.storage import Folder


def report_fault(error: Exception, verb: str, config: Verb | None, *, shown: bool) -> None:
    """Keep the traceback and say where it is; `shown`: print it too."""
    text = "".join(traceback.format_exception(error))
    if shown:
        print(text, file=sys.stderr)
    place = keep(text, verb, config)
    said = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    more = "" if shown else "; --debug shows it here"
    print(f"error: {said}; this is a fault of the program: {place} has its traceback{more}", file=sys.stderr)


def print_traceback(error: Exception) -> None:
    """What --debug shows of a user's mistake."""
    print("".join(traceback.format_exception(error)), file=sys.stderr)


def keep(text: str, verb: str, config: Verb | None) -> str:
    """Write the text beside the run, or, where nothing is or that cannot be, into a temporary file; the place."""
    name = f"{verb}.error.txt"
    try:
        folder = Folder(place_of(config), **config.storage.options())
        next(folder.list(include_hidden=True))
        folder.write(name, text.encode())
        return folder.uri_of(name)
    except Exception:  # of whatever kind: this must not hide the fault itself
        path = Path(tempfile.mkdtemp(prefix="seit_ray-"), name)
        path.write_text(text)
        return str(path)


def place_of(config: Verb) -> str:
    """The folder that a verb writes to; KeyError for a verb that writes none."""
    values = dict(config)
    if "output" in values and "run" in values and type(config).model_fields["output"].annotation is str:
        return f"{values['output'].rstrip('/')}/{values['run']}"
    place = values.get("run") or values["output"]
    if place.endswith((".csv", ".parquet", ".json")):
        place = place.rpartition("/")[0] or "."
    return place
