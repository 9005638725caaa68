"""`seit-ray VERB ...`: parse, check or run, print the table."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import typing

from seit_ray import config as configs
from seit_ray.verbs.command.arguments import TOOLS, VERBS, config_files, fail, joined, parse, usage
from seit_ray.verbs.command.errors import telling
from seit_ray.verbs.command.recipes import recipe_note

STOP = threading.Event()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    verb, *rest = joined(arguments)
    if verb in TOOLS:
        importlib.import_module(f"seit_ray.verbs.{verb}").main(rest)
    elif verb in VERBS:
        run_verb(verb, rest)
    else:
        fail(f"verb {verb!r}; expected one of {', '.join([*VERBS, *TOOLS])}")


def run_verb(verb: str, arguments: list[str] | None = None) -> None:
    """Parse, then check (--dry-run) or run; see `telling` for how it ends."""
    parsed = parse(verb, sys.argv[1:] if arguments is None else arguments)
    try:
        with telling(verb, debug=parsed.debug) as ending:
            config = ending.config = configs.load(VERBS[verb], config_files(parsed), parsed.overrides)
            config.cluster.address = parsed.address or config.cluster.address
            config.cluster.show_logs |= parsed.debug
            note = None if config_files(parsed) else recipe_note(verb, config)
            if note and not parsed.dry_run:
                print(note, flush=True)
            show(verb, config, dry_run=parsed.dry_run)
            if note and parsed.dry_run:
                print(note)
            if parsed.write_config:
                configs.write(config, parsed.write_config)
    except SystemExit:
        if STOP.is_set():  # all is unwound; what Ray does at the end of a process takes seconds
            sys.stdout.flush()
            os._exit(128 + signal.SIGTERM)  # for Ray's functions, which it may have been in, change the status
        raise


def stop(*_: object) -> typing.NoReturn:
    """At SIGTERM: unwind, so that a local ray is shut down, not orphaned."""
    STOP.set()
    sys.exit(128 + signal.SIGTERM)


def show(verb: str, config: typing.Any, *, dry_run: bool) -> None:
    """Run a verb or check it, and print the table that it returns."""
    module = importlib.import_module(f"seit_ray.verbs.{verb}")
    from seit_ray.report.terminal import table

    if dry_run:
        print(table(module.check(config), f"{verb}: dry run, nothing is done"))
        return
    from seit_ray.verbs.command.display import Display

    signal.signal(signal.SIGTERM, stop)
    with Display() as progress:
        rows = getattr(module, verb)(config, progress)
    print(table(rows, verb))


if __name__ == "__main__":
    main()
