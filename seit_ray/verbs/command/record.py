"""What a run was: resolved config, versions, git state, command, beside its results."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from seit_ray.config import Verb, deciding, deciding_keys, defaults, holds_secret
from seit_ray.images.sources.identity import names_mark
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import folder_of

PACKAGES = (
    "seit_ray",
    "ray",
    "torch",
    "timm",
    "numpy",
    "pyarrow",
    "s3fs",
    "pydantic",
    "pillow",
    "safetensors",
)


MAKERS = ("fit_tokenizer", "pretrain", "finetune", "train_tokenadapt", "import_weights")  # of a folder of their own
# The first of what stands, beside checkpoints, when something was made.
RESULTS = ("dataset.json", "tokenizer.json", "model.json", "metrics.jsonl", "report.html")


def record_of(verb: str, config: Verb) -> dict[str, Any]:
    """The record of a verb as plain values; secrets appear as stars."""
    return {
        "verb": verb,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [without_secret(argument, config) for argument in sys.argv],
        "config": config.model_dump(mode="json"),
        "decided_by": decided_by(config),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": platform.platform(),
        "git": git_state(),
    }


def without_secret(argument: str, config: Verb) -> str:
    """A word of the command line, the value of a secret key as stars."""
    key, sep, _ = argument.partition("=")
    return f"{key}=**********" if sep and holds_secret(type(config), key) else argument


def version(package: str) -> str | None:
    """Installed version; None for a package that runs from its source tree."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(file: Path = Path(__file__)) -> dict[str, Any] | None:
    """Commit and changed files of the checkout this runs from, by one of its files; None outside one.

    A package that is installed somewhere inside another repository is not of that one.
    """
    file = file.resolve()
    root = file.parents[3]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        git("ls-files", "--error-unmatch", str(file))
        return {"commit": git("rev-parse", "HEAD"), "changed": git("status", "--porcelain").splitlines()}
    except (OSError, subprocess.SubprocessError):
        return None


def begin_record(folder: Folder, verb: str, config: Verb) -> None:
    """Record what is begun, once: later calls with the same settings go to <verb>.history.jsonl, a record a line.

    Where other settings are allowed, since there is no result yet or the verb takes them up, they are begun anew.
    """
    keep_record(folder, verb, record_of(verb, config), is_new=bool(differing(folder, verb, config)))


def end_record(folder: Folder, verb: str, config: Verb, *, is_new: bool, of: str = "", **figures: Any) -> None:
    """Record a job that has ended, with its figures: in <verb>.run.json when it made what is there, anew (is_new).

    Calls that found it complete, or added to it, go to the history. of: what the names begin with, where a folder
    may hold several results.
    """
    keep_record(folder, f"{of}{verb}", record_of(verb, config) | figures, is_new=is_new)


def keep_record(folder: Folder, name: str, record: dict[str, Any], *, is_new: bool) -> None:
    """Write a record as <name>.run.json if it is new, or there is none, else as a line of <name>.history.jsonl."""
    if is_new or not folder.exists(f"{name}.run.json"):
        folder.write(f"{name}.run.json", json.dumps(record, indent=1).encode())
        return
    history = f"{name}.history.jsonl"
    before = folder.read(history) if folder.exists(history) else b""
    folder.write(history, before + json.dumps(record).encode() + b"\n")


def refuse_other_settings(folder: Folder, verb: str, config: Verb) -> None:
    """ValueError naming the keys in which a verb's config differs from what its folder was made with.

    A run that another verb has made is refused by the name of that verb.
    """
    if not holds_results(folder):
        return
    other = next((name for name in MAKERS if name != verb and folder.exists(f"{name}.run.json")), None)
    if verb in MAKERS and other is not None and not folder.exists(f"{verb}.run.json"):
        raise ValueError(
            f"{folder.uri} was made by {other}; expected nothing, or what {verb} left; choose another name or output"
        )
    if differ := differing(folder, verb, config):
        said = ", ".join(f"{key} {before!r} (now {now!r})" for key, (before, now) in list(differ.items())[:4])
        more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
        raise ValueError(
            f"{folder.uri} was made by {verb} with {said}{more}; expected the same settings; choose another name or "
            "output, or delete that folder and those of the phases behind it"
        )


def differing(folder: Folder, verb: str, config: Verb) -> dict[str, tuple[Any, Any]]:
    """Key -> (recorded value, value of now) of what decides a result and differs; nothing where there is no record.

    What the run was given and did not read, when that was not refused, decides nothing.
    """
    found = differences(folder, verb, config)
    unread = unread_among(found, config)
    return {key: pair for key, pair in found.items() if key not in unread}


def unread_among(found: dict[str, tuple[Any, Any]], config: Verb) -> set[str]:
    """Of what differs from a record, the keys that nothing reads with the values that the record says."""
    from seit_ray.verbs.command.older_records import unread_in

    return unread_in(config, {key: before for key, (before, _) in found.items()}) if found else set()


def as_begun(folder: Folder, verb: str, config: Verb) -> dict[str, Any]:
    """What decides the result of a run, by the values of its record for what nothing reads, as its checkpoints say."""
    found = differences(folder, verb, config)
    return decided_by(config) | {key: found[key][0] for key in unread_among(found, config)}


def recorded_by(folder: Folder, verb: str) -> dict[str, Any] | None:
    """What decided what a folder holds; None where there is no record, or one of a version that did not know."""
    if not folder.exists(f"{verb}.run.json"):
        return None
    recorded: dict[str, Any] | None = json.loads(folder.read(f"{verb}.run.json")).get("decided_by")
    return recorded


def differences(folder: Folder, verb: str, config: Verb) -> dict[str, tuple[Any, Any]]:
    """As `differing`, of all keys. One that is younger than the record had its default."""
    recorded = recorded_by(folder, verb)
    if recorded is None:  # the run compares what its checkpoints say
        return {}
    now = json.loads(json.dumps(decided_by(config)))
    before = {**{key: value for key, value in defaults(type(config)).items() if key in now}, **recorded}
    return {key: (before[key], now[key]) for key in now if key in before and before[key] != now[key]}


def decided_by(config: Verb) -> dict[str, Any]:
    """Dotted key -> value of all that decides the result of a verb; a place as the whole uri.

    Of a file of class names, what it holds too.
    """
    found = deciding(config)
    for key, is_place in deciding_keys(type(config)):
        if is_place and found[key]:
            found[key] = Folder(found[key]).uri
            if key == "source.class_names":
                found["names in source.class_names"] = names_mark(found[key], folder_of(found[key], config.storage))
    return found


def holds_results(folder: Folder) -> bool:
    """Whether a verb has made something here that its settings have decided."""
    return any(folder.exists(name) for name in RESULTS) or bool(folder.join("checkpoints").list_folders())
