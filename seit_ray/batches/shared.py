"""Arrays that the processes of a node share: files in memory, filled once under a lock, gone with their last user.

A user holds a shared lock on `<key>.used` for as long as it has the arrays; `<key>.lock` is held alone while somebody
comes or goes. Who finds, on leaving, that nobody else uses the arrays removes the files; what killed processes left is
taken over by the next user of the same key, or removed by the next of another.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEMORY = Path("/dev/shm")
FLAGS = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
PAGE_BYTES = 4096  # arrays start at multiples of it
_SEEN: set[Path] = set()  # folders of locks in which this process has looked for what others left

Layout = dict[str, tuple[tuple[int, ...], np.dtype]]  # name -> (shape, dtype)


@dataclass(eq=False)
class SharedArrays:
    """Arrays by name, changes of which no other process sees; the node's copy lives as long as one process has it."""

    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


def shared_arrays(key: str, layout: Layout, fill: Callable[[dict[str, np.ndarray]], None]) -> SharedArrays:
    """The node's arrays of that key; the first process that asks for them has `fill` write them, others wait.

    A key names content: equal keys mean equal arrays. ValueError when there is no room for them.
    """
    locks = lock_folder()
    remove_abandoned(locks, key)
    handle = locked(locks / f"{key}.lock")
    assert handle is not None  # it has waited
    used = os.open(locks / f"{key}.used", FLAGS, 0o600)
    try:
        fcntl.flock(used, fcntl.LOCK_SH)
        paths = [folder / f"{key}.data" for folder in data_folders(locks)]
        path = next((p for p in paths if p.exists()), None) or write_arrays(paths, layout, fill)
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        found = SharedArrays(views(mapped, layout))
    except BaseException:
        os.close(used)
        raise
    finally:
        os.close(handle)
    weakref.finalize(found, leave, used, locks, key)
    return found


def lock_folder() -> Path:
    """This user's folder of locks, made where needed."""
    folder = Path(tempfile.gettempdir()) / f"seit_ray-arrays-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def data_folders(locks: Path) -> list[Path]:
    """Where the data may lie: in memory, or, where that has no room (containers), beside the locks."""
    return [MEMORY / locks.name, locks] if MEMORY.is_dir() else [locks]


def locked(path: Path, *, wait: bool = True) -> int | None:
    """A descriptor that holds the lock at `path` alone; None where it does not wait and another holds it."""
    while True:
        handle = os.open(path, FLAGS, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # its last user removed it meanwhile


def write_arrays(paths: list[Path], layout: Layout, fill: Callable[[dict[str, np.ndarray]], None]) -> Path:
    """Fill a new file at the first of the paths that has room; it appears there when it is whole."""
    size = total_bytes(layout)
    for path in paths:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part = path.with_suffix(".part")  # under the lock: nobody else writes it
        try:
            with open(part, "w+b") as file:
                if shutil.disk_usage(path.parent).free < size:
                    continue
                try:
                    os.posix_fallocate(file.fileno(), 0, size)  # a full file system is an error here, no signal later
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    continue
                fill(views(mmap.mmap(file.fileno(), size), layout))
            os.replace(part, path)
            return path
        finally:
            part.unlink(missing_ok=True)
    raise ValueError(
        f"{size / 2**20:,.0f} MiB of tokens or pixels in {' or '.join(str(p.parent) for p in paths)}; expected room "
        "for them; free some, or lower loop.memory_gib"
    )


def offsets(layout: Layout) -> Iterator[tuple[str, int, int]]:
    """(name, first byte, bytes) of every array."""
    at = 0
    for name, (shape, dtype) in layout.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        yield name, at, size
        at += -(-size // PAGE_BYTES) * PAGE_BYTES


def total_bytes(layout: Layout) -> int:
    """Bytes of a file of the layout."""
    return max(PAGE_BYTES, max(at + size for _, at, size in offsets(layout)))


def views(buffer: mmap.mmap, layout: Layout) -> dict[str, np.ndarray]:
    """The arrays in a buffer."""
    return {
        name: np.frombuffer(buffer, layout[name][1], size // np.dtype(layout[name][1]).itemsize, at).reshape(
            layout[name][0]
        )
        for name, at, size in offsets(layout)
    }


def leave(used: int, locks: Path, key: str) -> None:
    """Let go of a key; the last user removes its files."""
    os.close(used)
    remove_unused(locks, key)


def remove_unused(locks: Path, key: str) -> None:
    """Delete a key's files, unless somebody uses them or is about to."""
    handle = locked(locks / f"{key}.lock", wait=False)
    if handle is None:
        return
    try:
        used = locked(locks / f"{key}.used", wait=False)
        if used is not None:
            os.close(used)  # nobody can begin to use it: that takes the lock
            for folder in data_folders(locks):
                for suffix in (".data", ".part"):
                    (folder / f"{key}{suffix}").unlink(missing_ok=True)
            for suffix in (".used", ".lock"):
                (locks / f"{key}{suffix}").unlink(missing_ok=True)
    finally:
        os.close(handle)


def remove_abandoned(locks: Path, own: str) -> None:
    """Delete what killed processes left of other keys; once a process is enough."""
    if locks in _SEEN:
        return
    _SEEN.add(locks)
    for path in locks.glob("*.lock"):
        if path.stem != own:
            remove_unused(locks, path.stem)
