"""What a job has read, as its plan tells it: another source under the same name, or other class names, show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from seit_ray.images.sources.class_names import read_class_names
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder

NAMES = "class_names_file"
YOUNGER = ("server", NAMES)  # than plans that were stored without them, and tell nothing of them


def identity(source: Folder, settings: SourceSettings) -> dict[str, Any]:
    """For a plan: where the images lie, on which server, how they are read, and what a file of class names holds."""
    found: dict[str, Any] = {"images": source.uri, "source": settings.as_dict()}
    if source.is_remote:
        found["server"] = source.named_server
    if settings.class_names:
        found[NAMES] = names_mark(settings.class_names, source)
    return found


def names_mark(uri: str, source: Folder) -> str:
    """Changes with the names in a file of class names, and with nothing else of it."""
    names = read_class_names(uri, source)
    return f"{len(names)} names, sha256 {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]}"


def differing(stored: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """What of a plan is not as in the one that was begun or done."""
    before = {"decode": "exact", **stored}  # what it was before there was a choice
    return [name for name in plan if before.get(name) != plan[name] and (name in before or name not in YOUNGER)]
