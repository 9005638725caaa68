"""How long each phase of several took, kept beside their results, so that a call that goes on does not forget."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping

from seit_ray.storage import Folder

FILE = "phases.json"


class Stopwatch:
    """Seconds of phases in `phases.json` of a folder; done: phase -> the file below it that says that it is done.

    A phase that is taken up again adds to what it took before; one that is done already is not timed.
    """

    def __init__(self, folder: Folder, done: Mapping[str, str]) -> None:
        self.folder, self.done = folder, done

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done within, however it ends."""
        if self.folder.exists(self.done[name]):
            yield
            return
        start = time.monotonic()
        try:
            yield
        finally:
            known = seconds_of(self.folder)
            known[name] = round(known.get(name, 0.0) + time.monotonic() - start, 2)
            self.folder.write(FILE, json.dumps(known, indent=1).encode())


def seconds_of(folder: Folder) -> dict[str, float]:
    """Phase -> seconds, of what was timed in a folder."""
    return json.loads(folder.read(FILE)) if folder.exists(FILE) else {}
