"""How a command ends that does not end well: each kind of error in its own way."""

from __future__ import annotations

import os
import select
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

from seit_ray.config import Predict, Verb
from seit_ray.verbs.command.arguments import USER_MISTAKE, fail


class telling:
    """A block whose errors end the program.

    ValueError is a user's mistake: one line, status 2; 75 where a storage was in trouble that may pass, so that it is
    worth trying again. Anything else is a fault of the program: its last line and the place of its traceback, which
    lies beside the run if `config` is known by then, status 1. `debug` shows tracebacks.
    """

    def __init__(self, command: str, *, debug: bool, interrupted: str = "the same command continues"):
        self.command, self.debug, self.interrupted = command, debug, interrupted
        self.config: Verb | None = None

    def __enter__(self) -> telling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, BrokenPipeError) and is_broken(1):  # whoever read the output has what they wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(128 + signal.SIGPIPE)
        if isinstance(error, KeyboardInterrupt):
            print(f"interrupted; {self.interrupted}", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        if isinstance(error, Exception):
            text = "".join(traceback.format_exception(error))
            if self.debug:
                print(text, file=sys.stderr)
            if isinstance(error, ValueError):
                fail(str(error), os.EX_TEMPFAIL if passes(error) else USER_MISTAKE)
            said = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            more = "" if self.debug else "; --debug shows it here"
            place = keep(text, self.command, self.config)
            print(f"error: {said}; this is a fault of the program: {place} has its traceback{more}", file=sys.stderr)
            sys.exit(1)


def is_broken(descriptor: int) -> bool:
    """Whether a pipe that this process writes to has no reader any more."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def passes(error: ValueError) -> bool:
    """Whether it is worth trying again."""
    from seit_ray.storage.errors import may_pass

    return may_pass(error) or may_pass(error.__cause__)


def keep(text: str, verb: str, config: Verb | None) -> str:
    """Write the text beside the run, or, where nothing is or that cannot be, into a temporary file; the place."""
    name = f"{verb}.error.txt"
    try:
        from seit_ray.storage import Folder

        assert config is not None
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
    place = values["output"] if isinstance(config, Predict) else values.get("run") or values["output"]
    if place.endswith((".csv", ".parquet", ".json")):
        place = place.rpartition("/")[0] or "."
    return place
