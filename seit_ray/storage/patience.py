"""A storage that does not answer is asked again, for as long as somebody has patience."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from seit_ray.storage.errors import StorageError

T = TypeVar("T")
PATIENCE_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 180.0, 1.0, 30.0


def patiently(function: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """function(), which may be called again; a StorageError of an outage is raised once patience ends."""
    pause, end = FIRST_PAUSE_S, time.monotonic() + patience_s
    while True:
        try:
            return function()
        except StorageError as error:
            if error.kind != "unavailable" or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
