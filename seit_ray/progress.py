"""How far a piece of work is: the one callable that everything reports to, and time in words."""

from __future__ import annotations

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
