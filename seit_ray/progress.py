"""How far a piece of work is: the one callable that everything reports to; where time goes; time and bytes in words."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]  # (phase, done, total, a few words); total 0 = not known


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """No progress."""


def duration(seconds: float) -> str:
    """As people say it: 45 s, 12 min, 3 h 05 min, 2 d 04 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def size_words(num_bytes: float) -> str:
    """Bytes as a person says them: 267 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= 0.9995 * factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes:.0f} B"


class Times:
    """Seconds of a piece of work by what took them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def add(self, name: str) -> None:
        """The time since the last call goes to `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def skip(self) -> None:
        """The time since the last call goes to nothing."""
        self.last = time.perf_counter()
