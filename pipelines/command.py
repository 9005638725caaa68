"""The command line that all verbs share: --config FILE, key=value, --dry-run, --address, --help, errors in one line."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import typing
from pathlib import Path

from seit_ray import config as configs

VERBS = {
    "quickstart": configs.Quickstart,
    "fit_tokenizer": configs.FitTokenizer,
    "tokenize_images": configs.TokenizeImages,
    "import_tokens": configs.ImportTokens,
    "export_tokens": configs.ExportTokens,
    "recode_tokens": configs.RecodeTokens,
    "inspect_tokens": configs.InspectTokens,
    "train_tokenadapt": configs.TrainTokenAdapt,
    "pretrain": configs.Pretrain,
    "finetune": configs.Finetune,
    "sweep": configs.Sweep,
    "import_weights": configs.ImportWeights,
    "evaluate": configs.Evaluate,
    "predict": configs.Predict,
    "run_all": configs.RunAll,
    "plan": configs.PlanCost,
}
STOP = threading.Event()
DEFAULT_CONFIGS = {"quickstart": str(Path(__file__).resolve().parent / "configs" / "quickstart.yaml")}


def main(arguments: list[str] | None = None) -> None:
    """`seit-ray <verb> ...`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: seit-ray VERB [--config FILE] [key=value ...] [--dry-run] [--address ADDRESS] [--help]\n")
        for name, verb in VERBS.items():
            print(f"  {name:16} {verb.__doc__}")
        print(f"\n  {'submit VERB':16} Run a verb as a job of a Ray cluster; see seit-ray submit --help")
        return
    verb, *rest = arguments
    if verb == "submit":
        importlib.import_module("pipelines.submit").main(rest)
    if verb not in VERBS:
        fail(f"verb {verb!r}; expected one of {', '.join(VERBS)}")
    run_verb(verb, rest)


def fail(message: str) -> typing.NoReturn:
    """End with a user's mistake: one line, exit status 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, as the rest of the program does, not with the usage."""

    def error(self, message: str) -> typing.NoReturn:
        fail(f"{message}; see {self.prog} --help")


def run_verb(verb: str, arguments: list[str] | None = None) -> None:
    """Parse, then plan (--dry-run) or run; a user's mistake ends with one line and exit status 2."""
    parsed = parse(verb, sys.argv[1:] if arguments is None else arguments)
    try:
        config = configs.load(VERBS[verb], parsed.config, parsed.overrides)
        if parsed.address:
            config.cluster.address = parsed.address
        show(verb, config, dry_run=parsed.dry_run)
    except ValueError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
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
    """Run a verb or its plan, and print the table that it returns."""
    module = importlib.import_module(f"pipelines.{verb}")
    from seit_ray.report.terminal import table

    if dry_run:
        print(table(module.plan(config), f"{verb}: plan (dry run, nothing is done)"))
        return
    from pipelines.progress import Progress

    signal.signal(signal.SIGTERM, stop)
    with Progress() as progress:
        rows = getattr(module, verb)(config, progress)
    print(table(rows, verb))


def parse(verb: str, arguments: list[str]) -> argparse.Namespace:
    """The command line of a verb; --help prints every key and ends."""
    parser = Parser(
        prog=f"seit-ray {verb}",
        description=VERBS[verb].__doc__,
        epilog=keys_help(VERBS[verb]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = DEFAULT_CONFIGS.get(verb)
    note = "; its own in pipelines/configs when left out" if default else ""
    parser.add_argument("--config", metavar="FILE", default=default, help=f"YAML file of keys{note}")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, do nothing")
    parser.add_argument("--address", help="ray cluster; default RAY_ADDRESS, or a local ray")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys; they win over the file")
    return parser.parse_intermixed_args(arguments)


def keys_help(verb: type[configs.Verb]) -> str:
    """Every key of a verb with type, default and meaning."""
    lines = ["keys:"]
    shared = [name + "." for name in configs.Verb.model_fields]  # these come last: few need them
    keys = sorted(configs.fields(verb), key=lambda item: item[0].startswith(tuple(shared)))
    for key, (kind, text, default) in keys:
        required = str(default) == "PydanticUndefined"
        shown = "required" if required else "" if default is None else f"default {default}"
        lines.append(f"  {key}={configs.type_name(kind)}")
        lines.append(f"      {text}{' (' + shown + ')' if shown else ''}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
