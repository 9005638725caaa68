"""A folder that jobs of this program fill: claimed while it is empty, cleaned by the names of a journal.

Nothing is deleted because its name looks like ours: what is to be written is written down before, in `_work/journal/`,
and only what stands there is removed when it is no part of the result. `_work/plan.json` says that the folder is ours
and what is being made in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import re
from collections.abc import Collection, Iterable
from typing import Any

from seit_ray.storage.errors import StorageError
from seit_ray.storage.folder import PROBE, PROBED, Folder
from seit_ray.storage.lock import LOCK
from seit_ray.storage.uris import split_uri

WORK = "_work"
PLAN = "plan.json"
JOURNAL = "journal"
OURS = ("dataset.json", f"{WORK}/{PLAN}")  # one of these says that a folder holds a token dataset, or its beginning
IS_PROBE = re.compile(re.escape(PROBE) + "[0-9a-f]{32}")
SHOWN = 3  # names that a message tells
RECORD = re.compile(r"[a-z_]+\.(run\.json|history\.jsonl|error\.txt)")  # of a verb


def refuse_overlap(output: Folder, other: Folder, what: str) -> None:
    """ValueError where an output is, holds or lies in the folder that a job reads.

    A job that lists its own output would take it for input, and an output that holds the input is not ours alone.
    """
    if not overlap(output, other):
        return
    if real(output) != real(other) and is_object(other):  # of a table or a tar, what lies beside it is not read
        return
    raise ValueError(
        f"output {output.uri} and {what} {other.uri}; expected two folders, neither of them in the other; choose "
        "another output"
    )


def overlap(one: Folder, other: Folder) -> bool:
    """Whether two folders are one, or one of them lies in the other."""
    if one.uri.partition("://")[0] != other.uri.partition("://")[0] and (one.is_remote or other.is_remote):
        return False
    mine, theirs = (real(folder) for folder in (one, other))
    return mine.startswith(theirs) or theirs.startswith(mine)


def real(folder: Folder) -> str:
    """The uri with a slash at its end; on disk without links."""
    return (folder.uri if folder.is_remote else os.path.realpath(folder.uri)).rstrip("/") + "/"


def is_object(folder: Folder) -> bool:
    """Whether what is named like a folder is one object."""
    parent, name = split_uri(folder.uri)
    return bool(name) and folder.at(parent).exists(name)


def claim(folder: Folder, ours: Collection[str] = ()) -> None:
    """ValueError unless a folder is empty, but for `ours` and what begins with a dot; records of verbs do not count.

    ours: names of objects, or of folders with a slash at their end, one of which says that the folder is ours. What
    killed calls have left of their look whether they may write is removed.
    """
    remove_probes(folder)
    if any(is_there(folder, name) for name in ours):
        return
    foreign: list[str] = []
    for entry in folder.list(include_hidden=True):
        if not (is_dotted(entry.name) or entry.name == LOCK or RECORD.fullmatch(entry.name)):
            foreign.append(entry.name)
        if len(foreign) > SHOWN:
            break
    if foreign:
        names = ", ".join(foreign[:SHOWN]) + (", ..." if len(foreign) > SHOWN else "")
        raise ValueError(
            f"{folder.uri} holds {names}, which this program did not write there; expected an empty folder, or what an "
            "earlier call left; choose another output"
        )


def remove_probes(folder: Folder) -> None:
    """Remove the objects of `Folder.check_writable` that are still there: by their name, and by what they hold."""
    names = [entry.name for entry in folder.list(PROBE, include_hidden=True) if IS_PROBE.fullmatch(entry.name)]
    for name, content in zip(names, folder.read_many(names, max_bytes=len(PROBED)) if names else (), strict=True):
        if content == PROBED:
            with contextlib.suppress(StorageError):  # who may not delete there is told when it matters
                folder.delete(name)


def is_there(folder: Folder, name: str) -> bool:
    """Whether there is an object of this name, or one in the folder of this name, which ends in a slash."""
    if name.endswith("/"):
        return next(folder.join(name[:-1]).list(include_hidden=True), None) is not None
    return folder.exists(name)


def is_dotted(name: str) -> bool:
    """Whether a part of the name begins with a dot, as .DS_Store and the temporary files of a writer do."""
    return any(part.startswith(".") for part in name.split("/"))


def read_plan(folder: Folder) -> dict[str, Any] | None:
    """The plan of the work that was begun in a folder; None when there is none."""
    work = folder.join(WORK)
    if not work.exists(PLAN):
        return None
    try:
        plan = json.loads(work.read(PLAN))
        if not isinstance(plan, dict):
            raise ValueError("no mapping")
    except StorageError:
        raise
    except ValueError as error:
        raise ValueError(
            f"{work.uri_of(PLAN)} cannot be read ({error}); expected the plan of a job; restore it, or delete "
            f"{work.uri} to begin anew"
        ) from error
    return plan


def write_plan(folder: Folder, plan: dict[str, Any]) -> None:
    """Begin: from here on, the folder is ours."""
    folder.join(WORK).write(PLAN, json.dumps(plan, indent=1).encode())


def note_names(folder: Folder, kind: str, names: Iterable[str]) -> None:
    """Write down, before they are written, the names of objects; those of a `kind` replace earlier ones of it."""
    folder.join(WORK, JOURNAL).write(f"{kind}.json", json.dumps(sorted(names)).encode())


def noted_names(folder: Folder) -> set[str]:
    """All names of the journal."""
    journal = folder.join(WORK, JOURNAL)
    return {name for entry in list(journal.list()) for name in json.loads(journal.read(entry.name))}


def remove_unknown(folder: Folder, known: Collection[str]) -> None:
    """Remove what the journal names and `known` does not, and what killed writers left of any of them."""
    noted, ours = noted_names(folder), {*known, LOCK}
    unknown, targets = noted - ours, set() if folder.is_remote else noted | ours
    if not unknown and folder.is_remote:
        return
    for entry in list(folder.list(include_hidden=True)):
        if entry.name in unknown or target_of(entry.name) in targets:
            folder.delete(entry.name)


def target_of(name: str) -> str | None:
    """What a temporary file of `LocalStore.write` was to become; None for other names."""
    place, base = posixpath.split(name)
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{32}\.tmp", base)
    return posixpath.join(place, found[1]) if found else None


def end_work(folder: Folder, parts: Collection[str]) -> None:
    """Remove the work: the folders `parts` of it and the journal, the plan last, for it says that they are ours."""
    work = folder.join(WORK)
    for name in (*parts, JOURNAL):
        work.delete_tree(name)
    work.delete(PLAN)
    remove_empty(work)


def remove_empty(folder: Folder) -> None:
    """Remove a folder of ours on disk, where nothing is left in it."""
    if not folder.is_remote and next(folder.list(include_hidden=True), None) is None:
        folder.delete_tree()
