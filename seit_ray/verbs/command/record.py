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

from seit_ray.config import Verb, fields, holds_secret
from seit_ray.storage import Folder

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


def record_of(verb: str, config: Verb) -> dict[str, Any]:
    """The record of a verb as plain values; secrets appear as stars."""
    return {
        "verb": verb,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [without_secret(argument, config) for argument in sys.argv],
        "config": config.model_dump(mode="json"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": platform.platform(),
        "git": git_state(),
    }


def without_secret(argument: str, config: Verb) -> str:
    """A word of the command line, the value of a secret key as stars."""
    key, sep, _ = argument.partition("=")
    return f"{key}=**********" if sep and holds_secret(type(config), key) else argument


def write_record(folder: Folder, verb: str, config: Verb, **figures: Any) -> None:
    """Write <verb>.run.json into a folder, with figures of the run, if any."""
    folder.write(f"{verb}.run.json", json.dumps(record_of(verb, config) | figures, indent=1).encode())


def version(package: str) -> str | None:
    """Installed version; None for a package that runs from its source tree."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state() -> dict[str, Any] | None:
    """Commit and changed files of the checkout this runs from; None outside one."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": git("status", "--porcelain").splitlines()}
    except (OSError, subprocess.SubprocessError):
        return None


def refuse_other_settings(folder: Folder, verb: str, part: Verb) -> None:
    """ValueError naming the keys in which a verb's config differs from what its folder was made with."""
    if not folder.exists(f"{verb}.run.json"):
        return
    before, now = json.loads(folder.read(f"{verb}.run.json"))["config"], part.model_dump(mode="json")
    ignored = ("cluster.", "storage.", "workers.")
    keys = [key for key, _ in fields(type(part)) if not key.startswith(ignored)]
    differ = [key for key in keys if at(before, key) is not KeyError and at(before, key) != at(now, key)]
    if differ:
        said = ", ".join(f"{key} {at(before, key)!r} (now {at(now, key)!r})" for key in differ[:4])
        raise ValueError(
            f"{folder.uri} was made by {verb} with {said}; expected the same settings; choose another output, or "
            "delete that folder and those of the phases behind it"
        )


def at(values: Any, key: str) -> Any:
    """The value at a dotted key; KeyError, the class, where an older record has none."""
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return KeyError
        values = values[part]
    return values
