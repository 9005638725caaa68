"""Ends for the processes of a tokenising job: workers of the ray of this process, and drivers that end themselves."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from tests.warm import processes as warm

ROOT = Path(__file__).resolve().parents[2]
NUM_IMAGES, ROWS = 240, 4
SETTINGS = {"rows_per_shard": ROWS, "val_fraction": 0.1, "num_actors": 1, "max_reject_fraction": 0.1}


class Killer:
    """Progress that, from when `share` of the images is done, kills -9 `times` workers whose title holds `title`."""

    def __init__(self, title: str, times: int = 1, share: float = 0.0):
        self.title, self.times, self.share = title, times, share
        self.killed: list[int] = []
        self.thread: threading.Thread | None = None

    def __call__(self, phase: str, done: int, total: int, note: str) -> None:
        if phase == "tokenise" and done >= self.share * total and self.thread is None:
            self.thread = threading.Thread(target=self._work, daemon=True)
            self.thread.start()

    def _work(self) -> None:
        deadline = time.monotonic() + 150  # on a loaded machine the workers begin late
        while len(self.killed) < self.times and time.monotonic() < deadline:
            for pid, title in descendants(os.getpid()).items():
                if self.title in title and pid not in self.killed and len(self.killed) < self.times:
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(pid)
            time.sleep(0.005)


def descendants(root: int) -> dict[int, str]:
    """pid -> command line of all processes below one."""
    parents, titles = {}, {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text()
                titles[int(entry.name)] = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, last = {root}, set()
    while found != last:
        last, found = found, found | {pid for pid, parent in parents.items() if parent in found}
    return {pid: titles[pid] for pid in found - {root} if pid in titles}


def end_of_driver(moment: str, *arguments: str, timeout_s: float = 240) -> int:
    """Run `tests.distributed.data.dying_driver`, which ends itself at a moment; its exit status."""
    command = [sys.executable, "-m", "tests.distributed.data.dying_driver", moment, *arguments]
    done = warm.run(command, cwd=ROOT, env=os.environ | warm.variables(), start_new_session=True, timeout=timeout_s)
    if done.returncode not in (0, -signal.SIGKILL, -signal.SIGTERM, 143):
        raise AssertionError(done.stderr[-3000:])
    return done.returncode
