"""Metrics of a run: metrics.jsonl (one record a line) beside the checkpoints, and the trackers."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from seit_ray.progress import duration
from seit_ray.storage import Folder
from seit_ray.training.trackers import open_trackers

FLUSH_EVERY_S = 20.0
MOST_WAITING = 100  # records behind a slow storage: until they are through, nothing more is asked to be written


class MetricsLog:
    """Records of one run, added by the training and written by a thread: no step waits for a storage or a tracker.

    An error of the thread comes up at the next `add`, `flush` or `close`. Object stores cannot append: the file is
    written whole, of lines that are encoded once.
    """

    def __init__(
        self,
        run: Folder,
        start_step: int,
        trackers: Sequence[str] = ("tensorboard",),
        about: dict[str, Any] | None = None,
    ):
        self.run = run
        kept = [record for record in read_metrics(run) if record["step"] <= start_step]  # a killed run may be ahead
        self._lines = bytearray(b"".join(map(line_of, kept)))  # of the thread alone from here on, as are the trackers
        self.trackers = open_trackers(trackers, run, start_step, flat(about or {}))
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._waiting: deque[Future[None]] = deque()
        self._flushed = time.monotonic()

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; numbers beside `step` go to the trackers. Now and then, all is written."""
        self._submit(self._take, dict(record))
        if time.monotonic() - self._flushed > FLUSH_EVERY_S and len(self._waiting) < MOST_WAITING:
            self.flush_later()

    def flush_later(self) -> Future[None]:
        """Have all that there is written; done when it is."""
        self._flushed = time.monotonic()
        return self._submit(self._write)

    def flush(self) -> None:
        """Write what there is."""
        self.flush_later().result()

    def close(self) -> None:
        """Flush and end."""
        try:
            self.flush()
            self._submit(self._end).result()
            self._raise_errors(all_of_them=True)
        finally:
            self._thread.shutdown()

    def _submit(self, work: Callable[..., None], *arguments: Any) -> Future[None]:
        self._raise_errors()
        future = self._thread.submit(work, *arguments)
        self._waiting.append(future)
        return future

    def _raise_errors(self, *, all_of_them: bool = False) -> None:
        while self._waiting and (all_of_them or self._waiting[0].done()):
            self._waiting.popleft().result()

    def _take(self, record: dict[str, Any]) -> None:
        self._lines += line_of(record)
        numbers = {k: v for k, v in record.items() if k != "step" and isinstance(v, int | float)}
        for tracker in self.trackers:
            tracker.add(record["step"], numbers)

    def _write(self) -> None:
        self.run.write("metrics.jsonl", bytes(self._lines))
        for tracker in self.trackers:
            tracker.flush()

    def _end(self) -> None:
        for tracker in self.trackers:
            tracker.close()


def line_of(record: dict[str, Any]) -> bytes:
    """A record as a line of metrics.jsonl."""
    return json.dumps(record).encode() + b"\n"


def flat(about: dict[str, Any]) -> dict[str, Any]:
    """What a run is, for trackers: the keys of mappings beside the others."""
    return {
        name: inner
        for key, value in about.items()
        for name, inner in (value.items() if isinstance(value, dict) else [(key, value)])
    }


def read_metrics(run: Folder) -> list[dict[str, Any]]:
    """Records of a run's metrics.jsonl; none when it has none."""
    if not run.exists("metrics.jsonl"):
        return []
    return [json.loads(line) for line in run.read("metrics.jsonl").decode().splitlines()]


def describe(metrics: dict[str, Any], left_s: float) -> str:
    """A few words on a record and the time that is left, for a progress line."""
    shown = {"train_loss": "loss {:.3f}", "val_top1": "val top-1 {:.1%}", "val_loss": "val loss {:.3f}"}
    words = [text.format(metrics[name]) for name, text in shown.items() if name in metrics]
    words.append(f"{metrics['samples_per_s']:.0f} samples/s")
    return ", ".join([*words, f"{duration(left_s)} left"] if left_s else words)
