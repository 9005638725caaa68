"""The files below a folder of a disk, in the order in which buckets list theirs."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from seit_ray.storage.cuts import ENOUGH, LEVELS, chosen
from seit_ray.storage.entry import WHOLE, Entry, Stretch, is_hidden
from seit_ray.storage.errors import StorageError, explain, may_pass

Ancestors = frozenset[tuple[int, int]]  # (device, inode) of a folder and those above it


def files_below(
    root: str,
    prefix: str,
    include_hidden: bool,
    on_skipped: Callable[[str], None] | None = None,
    stretch: Stretch = WHOLE,
) -> Iterator[Entry]:
    """Files below root whose relative name starts with prefix, in the order of S3 keys; none if missing.

    Holds the names of one folder a level. Follows links; a link to a folder that contains it is left out.
    """
    start = prefix[: prefix.rfind("/") + 1]
    stack = [_open_folder(root, start, frozenset())]
    while stack:
        relative, names, ancestors = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            continue
        name = relative + name
        if not name.startswith(prefix) or not (include_hidden or not is_hidden(name, prefix)):
            continue
        if stretch != WHOLE and not _may_hold(name, stretch):
            continue
        if name.endswith("/"):
            stack.append(_open_folder(root, name, ancestors))
        elif (entry := _entry_or_skip(root, name, on_skipped)) is not None:
            yield entry


def folders_to_cut_at(root: str, after: str, most: int, listed: int) -> Sequence[str]:
    """Names of folders behind `after`, of the uppermost levels that have enough of them."""
    if most < 1:
        return []
    found: list[str] = []
    level = [""]
    for _ in range(LEVELS):
        names = [place + name for place in level for name in _open_folder(root, place, frozenset())[1]]
        level = [name for name in names if name.endswith("/")]
        found += level
        if len(found) >= ENOUGH or len(level) > most:
            break
    return chosen(found, after, most, listed)


def _open_folder(root: str, relative: str, ancestors: Ancestors) -> tuple[str, Iterator[str], Ancestors]:
    """(relative, its sorted names, it and those above); no names for a loop or a missing folder."""
    path = os.path.join(root, relative)
    try:
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        if not stat.S_ISDIR(status.st_mode) or identity in ancestors:
            return relative, iter(()), ancestors
        return relative, iter(sorted_names(path)), ancestors | {identity}
    except FileNotFoundError:
        return relative, iter(()), ancestors


def _may_hold(name: str, stretch: Stretch) -> bool:
    """Whether a file is of a stretch, or a folder may hold one that is."""
    after, until = stretch
    is_behind = name > after or (name.endswith("/") and after.startswith(name))
    return is_behind and (until is None or name <= until)


def sorted_names(path: str) -> list[str]:
    """Names in one folder, sorted as S3 sorts keys: by bytes, a folder with its '/'."""
    with os.scandir(path) as entries:
        names = [entry.name + "/" if _is_folder(entry) else entry.name for entry in entries]
    return sorted(names, key=os.fsencode)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link to itself
        if may_pass(explain(error, entry.path)):
            raise
        return False


def _entry_or_skip(root: str, name: str, on_skipped: Callable[[str], None] | None) -> Entry | None:
    """As `_entry`; what cannot be listed is told instead of raised, where somebody is told."""
    try:
        found = _entry(root, name)
        if found is None and on_skipped is not None:
            on_skipped("pipe, socket or device")
        return found
    except (StorageError, FileNotFoundError) as error:
        if on_skipped is None:
            raise
        on_skipped("vanished" if isinstance(error, FileNotFoundError) else "name that is not UTF-8")
        return None


def modified(status: os.stat_result) -> str:
    return datetime.fromtimestamp(status.st_mtime, UTC).isoformat()


def _entry(root: str, name: str) -> Entry | None:
    """The file as an Entry; a broken link too, to fail when it is read; None for pipes and devices."""
    path = os.path.join(root, name)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise StorageError(f"file name {os.fsencode(path)!r}; expected UTF-8; rename the file") from error
    try:
        status = os.stat(path)
    except OSError as error:
        if may_pass(explain(error, path)):
            raise
        status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        return None
    return Entry(name, status.st_size, modified(status))
