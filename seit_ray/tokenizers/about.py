"""What tokenizer.json says of a tokenizer: family, fingerprint, config, grid, number of codes. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from seit_ray.storage import Folder

FORMAT_VERSION = 1
FIELDS = ("family", "fingerprint", "config", "grid", "codebook_size")


def read_about(folder: Folder) -> dict[str, Any]:
    """tokenizer.json of a folder; ValueError when it is missing, damaged or of another format."""
    if not folder.exists("tokenizer.json"):
        folder.check_readable()
        raise ValueError(f"no tokenizer in {folder.uri}; expected tokenizer.json; run fit_tokenizer first")
    try:
        about = json.loads(folder.read("tokenizer.json"))
        version, _ = about["format_version"], [about[name] for name in FIELDS]
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, error) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"tokenizer in {folder.uri} has format version {version}; expected {FORMAT_VERSION}; update seit_ray"
        )
    return about


def describe(about: dict[str, Any]) -> str:
    """A few words for a table."""
    grid = "x".join(map(str, about["grid"]))
    return f"{about['family']} {about['fingerprint']}, grid {grid}, K {about['codebook_size']}"


def digest(about: dict[str, Any]) -> str:
    """SHA-256, in hex, of the content of a tokenizer.json beside its own `sha256`."""
    content = {key: value for key, value in about.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def unreadable(folder: Folder, error: Exception) -> ValueError:
    """The error for files that hold something else."""
    return ValueError(f"tokenizer in {folder.uri} cannot be read ({error!r}); copy or fit it again")
