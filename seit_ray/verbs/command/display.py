"""Live progress: one bar a phase on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

LINE_EVERY_S = 5.0


class Display:
    """A `progress.Progress`; use it as a context."""

    def __init__(self) -> None:
        self.rich = Console(stderr=True).is_terminal
        self.bars = RichProgress(
            TextColumn("{task.description:>12}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self.tasks: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}
        self.last_line: dict[str, float] = {}

    def __enter__(self) -> Display:
        if self.rich:
            self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.rich:
            self.bars.stop()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Show how far a phase is."""
        if self.rich:
            if phase not in self.tasks:
                self.tasks[phase] = self.bars.add_task(phase, total=total or None, note=note)
            self.bars.update(self.tasks[phase], completed=done, total=total or None, note=note)
            return
        now = time.monotonic()
        start = self.started.setdefault(phase, now)
        first, ended = phase not in self.last_line, bool(total) and done >= total
        if not first and not ended and now - self.last_line[phase] < LINE_EVERY_S:
            return
        self.last_line[phase] = now
        share = f"{done}/{total} ({done / total:.0%})" if total else str(done)
        print(f"{phase:>12}  {share:>20}  {now - start:6.1f} s  {note}".rstrip(), file=sys.stderr, flush=True)
