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

from pydantic import BaseModel

from seit_ray.config import holds_secret
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


def record_of(verb: str, config: BaseModel) -> dict[str, Any]:
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


def without_secret(argument: str, config: BaseModel) -> str:
    """A word of the command line, the value of a secret key as stars."""
    key, sep, _ = argument.partition("=")
    return f"{key}=**********" if sep and holds_secret(type(config), key) else argument


def write_record(folder: Folder, verb: str, config: BaseModel) -> None:
    """Write <verb>.run.json into a folder."""
    folder.write(f"{verb}.run.json", json.dumps(record_of(verb, config), indent=1).encode())


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
