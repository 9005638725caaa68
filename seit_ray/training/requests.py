"""What is asked of a running training from outside: to save, or to save and stop, at the end of the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from seit_ray.progress import Progress


class Stopped(Exception):
    """The training has stopped, as it was asked to; its last checkpoint is of `step`, and a rerun continues there."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}; the same command continues")
        self.step = step


@dataclass
class Requests:
    """Set by any thread, at any rank; all ranks act together. `listening` says that steps are being taken."""

    stop: bool = False
    save: bool = False
    listening: bool = False
    on_saved: Callable[[int], None] = lambda step: None


class Hooks(TypedDict, total=False):
    """What whoever starts a training gives it: whom to tell of its way and its metrics, and who may ask.

    decided_by: the user's keys and values that decide the result, part of the run's identity. replay: number of a step
    to run by itself, instead of training.
    """

    decided_by: dict[str, Any]
    replay: int
    on_progress: Progress
    on_metrics: Callable[[dict[str, Any]], None]
    requests: Requests
