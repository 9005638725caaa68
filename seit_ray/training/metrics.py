"""Metrics of a run: metrics.jsonl (one record a line) beside the checkpoints, and the trackers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from seit_ray.progress import duration
from seit_ray.storage import Folder
from seit_ray.training.trackers import open_trackers

FLUSH_EVERY_S = 20.0


class MetricsLog:
    """Records of one run. Object stores cannot append, so the file is rewritten at each flush: it is small."""

    def __init__(
        self,
        run: Folder,
        start_step: int,
        trackers: Sequence[str] = ("tensorboard",),
        about: dict[str, Any] | None = None,
    ):
        self.run = run
        self.records = [r for r in read_metrics(run) if r["step"] <= start_step]  # a killed run may be ahead
        self.trackers = open_trackers(trackers, run, start_step, about or {})
        self._flushed = time.monotonic()

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; numbers beside `step` go to the trackers. Now and then, all is written."""
        self.records.append(record)
        numbers = {k: v for k, v in record.items() if k != "step" and isinstance(v, int | float)}
        for tracker in self.trackers:
            tracker.add(record["step"], numbers)
        if time.monotonic() - self._flushed > FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        self.run.write("metrics.jsonl", "".join(json.dumps(r) + "\n" for r in self.records).encode())
        for tracker in self.trackers:
            tracker.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and end."""
        self.flush()
        for tracker in self.trackers:
            tracker.close()


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
