"""How far a piece of work is: the one callable that everything reports to."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]  # (phase, done, total, a few words); total 0 = not known


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """No progress."""
