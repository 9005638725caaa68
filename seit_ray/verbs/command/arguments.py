"""The words of a command line: which verbs there are, their options, their help."""

from __future__ import annotations

import argparse
import sys
import typing

from seit_ray import config as configs

VERBS: dict[str, type[configs.Verb]] = {
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
    "study_storage_curve": configs.StudyStorageCurve,
    "study_transfer": configs.StudyTransfer,
    "study_continual": configs.StudyContinual,
}
# Words that look at what verbs did, or hand one on; each is a file of `verbs` with a `main` of its own.
TOOLS = {
    "submit": "Run a verb as a job of a Ray cluster",
    "runs": "List runs with state and figures, or tell in what two of them differ",
    "status": "Tell how far a tokenising job is, and whether it runs",
    "schema": "Write the JSON schema of a config",
}
STUDY = "study"  # `study NAME` is the verb study_NAME
DEFAULT_CONFIGS = {"quickstart": "quickstart"}
USER_MISTAKE = 2  # exit status for what only the user can mend


def fail(message: str, status: int = USER_MISTAKE) -> typing.NoReturn:
    """End with an error of one line."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, as the rest of the program does, not with the usage."""

    def error(self, message: str) -> typing.NoReturn:
        fail(f"{message}; see {self.prog} --help")


def joined(words: list[str]) -> list[str]:
    """The words of a command with its verb as one: `study transfer ...` is `study_transfer ...`."""
    if words[:1] != [STUDY]:
        return words
    studies = [verb.removeprefix(f"{STUDY}_") for verb in VERBS if verb.startswith(f"{STUDY}_")]
    if len(words) < 2 or words[1] not in studies:
        given = words[1] if len(words) > 1 else "without a name"
        fail(f"study {given}; expected one of {', '.join(studies)}; seit-ray study NAME --help has its keys")
    return [f"{STUDY}_{words[1]}", *words[2:]]


def usage() -> str:
    """What `seit-ray --help` prints."""
    lines = ["usage: seit-ray VERB [--config FILE ...] [key=value ...] [--dry-run] [--address ADDRESS] [--help]", ""]
    lines += [f"  {name:16} {verb.__doc__}" for name, verb in VERBS.items()]
    lines += ["", "A study is named by two words: seit-ray study NAME is the verb study_NAME."]
    lines += ["", *(f"  {name:16} {text}; see seit-ray {name} --help" for name, text in TOOLS.items())]
    return "\n".join(lines)


def parse(verb: str, arguments: list[str]) -> argparse.Namespace:
    """The command line of a verb; --help prints every key and ends."""
    parser = Parser(
        prog=f"seit-ray {verb}",
        description=VERBS[verb].__doc__,
        epilog=keys_help(VERBS[verb]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser, DEFAULT_CONFIGS.get(verb))
    parser.add_argument("--dry-run", action="store_true", help="check everything, print what would be done, do nothing")
    parser.add_argument("--write-config", metavar="FILE", help="with --dry-run: write all keys as they come out (YAML)")
    parser.add_argument("--address", help="ray cluster; default RAY_ADDRESS, or a local ray")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and the logs of Ray's workers")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys; they win over the files")
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.write_config and not parsed.dry_run:
        parser.error("--write-config without --dry-run; expected both")
    return parsed


def add_config(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """The option of config files."""
    note = f" (default {default})" if default else ""
    parser.add_argument(
        "--config",
        metavar="FILE",
        action="append",
        help=f"YAML file of keys, or the name of a recipe{note}; of several, later ones win",
    )
    parser.set_defaults(default_config=default)


def config_files(parsed: argparse.Namespace) -> list[str]:
    """The config files that were named, or the verb's own."""
    return parsed.config or ([parsed.default_config] if parsed.default_config else [])


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
