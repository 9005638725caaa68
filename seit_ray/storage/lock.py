"""One writer at a time in a folder: an object that says who writes, renewed by a thread as long as they do.

Who finds another's lock asks whether that process still runs, when it is of the same machine; else watches for a
sign of life. No clocks are compared but for locks of long ago. A lock that was lost stops its owner at `check`.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from seit_ray.storage.errors import StorageError
from seit_ray.storage.folder import Folder

LOCK = "_lock.json"  # its name in every folder that one program at a time writes to
BEAT_S = 15.0  # renewed this often
SILENT_S = 120.0  # without a sign of life, seen by the one who waits: the owner is gone
STALE_S = 1800.0  # last sign of life by the owner's clock: gone too; more than clocks differ
SETTLE_S = 2.0  # after taking over: of two who do so at once, the last one keeps it


class LockedError(ValueError):
    """Another job writes to the folder."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. machine and started tell whether the process can be asked for, and is still the same."""

    token: str
    user: str
    host: str
    machine: str
    pid: int
    started: str
    beat: int
    time: float

    def words(self) -> str:
        """For a line on the terminal."""
        ago = max(0.0, time.time() - self.time)
        return f"{self.user}@{self.host}, process {self.pid}, last sign of life {ago:.0f} s ago"


class Lock:
    """A lock that is held; `check` raises once it is not."""

    def __init__(self, folder: Folder, name: str, *, beat_s: float = BEAT_S):
        self.folder, self.name, self.beat_s = folder, name, beat_s
        self.holder = Holder(
            uuid.uuid4().hex,
            user_name(),
            socket.gethostname(),
            machine_mark(),
            os.getpid(),
            start_of(os.getpid()),
            0,
            0.0,
        )
        self.lost: str | None = None
        self.released = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="lock", daemon=True)

    def acquire(self, on_note: Callable[[str], None], *, silent_s: float, settle_s: float) -> None:
        """Take the lock; LockedError while its holder lives; says whom it took it from."""
        first, since = None, time.monotonic()
        while not self.folder.create(self.name, self._content()):
            held = self._read()
            if held is None:  # just released
                time.sleep(min(1.0, settle_s))
                continue
            if held.token == self.holder.token:  # ours: the answer to our request was lost
                break
            first = first or held
            if held.token != first.token or held.beat != first.beat or is_running(held):
                raise LockedError(
                    f"{self.folder.uri} is being written to by {held.words()}; expected one job at a time; wait for "
                    "it, or stop it and run again"
                )
            waited = time.monotonic() - since
            is_gone = has_ended(held) or waited > silent_s
            if is_gone and self._take_over(settle_s):
                on_note(f"taken over from {held.words()}, which has ended")
                break
            if not is_gone:
                on_note(f"waiting up to {silent_s:.0f} s for a sign of life of {held.words()}")
                time.sleep(min(self.beat_s, silent_s) / 4)
        self.thread.start()

    def check(self) -> None:
        """ValueError when another has taken the lock, or it was removed; asks the storage."""
        if self.lost is None:
            self._look()
        if self.lost is not None:
            raise LockedError(
                f"{self.folder.uri_of(self.name)} was {self.lost}; expected to be the only job that writes to "
                f"{self.folder.uri}; see that one job runs, and run again: finished work is kept"
            )

    def release(self) -> None:
        """Stop renewing it, and remove it if it is still ours."""
        self.released.set()
        if self.thread.is_alive():
            self.thread.join()
        with contextlib.suppress(StorageError, LockedError):  # the work is done, or has its own error
            held = self._read()
            if held is not None and held.token == self.holder.token:
                self.folder.delete(self.name)

    def _take_over(self, settle_s: float) -> bool:
        self.folder.write(self.name, self._content())
        time.sleep(settle_s)
        held = self._read()
        return held is not None and held.token == self.holder.token

    def _beat(self) -> None:
        while not self.released.wait(self.beat_s) and self.lost is None:
            with contextlib.suppress(StorageError):  # may pass; the work itself would say so
                self._look()
                if self.lost is None:
                    self.folder.write(self.name, self._content())

    def _look(self) -> None:
        held = self._read()
        if held is None:
            self.lost = "removed"
        elif held.token != self.holder.token:
            self.lost = f"taken over by {held.words()}"

    def _content(self) -> bytes:
        values = asdict(self.holder)
        values["beat"], values["time"] = time.monotonic_ns(), time.time()
        return json.dumps(values, indent=1).encode()

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self.folder.read(self.name)))
        except StorageError as error:
            if error.kind == "missing":
                return None
            raise
        except (ValueError, TypeError) as error:
            raise LockedError(
                f"{self.folder.uri_of(self.name)} cannot be read ({error}); expected the lock of a job; delete it if "
                "no job is running"
            ) from error


@contextlib.contextmanager
def locked(
    folder: Folder,
    name: str,
    *,
    on_note: Callable[[str], None] = lambda note: None,
    beat_s: float = BEAT_S,
    silent_s: float = SILENT_S,
    settle_s: float = SETTLE_S,
) -> Iterator[Lock]:
    """Be the only one that writes to a folder; LockedError, one line, when another does."""
    lock = Lock(folder, name, beat_s=beat_s)
    try:
        lock.acquire(on_note, silent_s=silent_s, settle_s=settle_s)
        yield lock
    finally:
        lock.release()


def remove_ended(folder: Folder, name: str = LOCK, *, settle_s: float = SETTLE_S) -> None:
    """Remove the lock of a job that was killed behind its work, if there is one; what may run still keeps its own."""
    with contextlib.suppress(LockedError):
        held = Lock(folder, name)._read()
        if held is not None and has_ended(held):
            with locked(folder, name, settle_s=settle_s):
                pass


def has_ended(holder: Holder) -> bool:
    """Whether a holder is known to be gone, without waiting for a sign of life."""
    return is_running(holder) is False or time.time() - holder.time > STALE_S


def is_running(holder: Holder) -> bool | None:
    """Whether the holder's process still runs; None when it is of another machine, or of another container."""
    if not holder.started or holder.machine != machine_mark():
        return None
    return start_of(holder.pid) == holder.started


def user_name() -> str:
    """Who runs this; a container may not know the number of its user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def machine_mark() -> str:
    """The same for processes that can see each other by number: this boot of the kernel, and the namespace; or ''."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return ""


def start_of(pid: int) -> str:
    """When a process was started, in ticks since boot; '' when it does not run, or nobody can say."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if values[0] in ("Z", "X") else values[19]
