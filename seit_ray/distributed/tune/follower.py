"""Follows a sweep or a study in its driver: what becomes of each trial is recorded as Ray Tune goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray import tune

from seit_ray.progress import Progress
from seit_ray.storage import Folder, StorageError
from seit_ray.studies.trials import Outcome, Trial, write_outcome

POLL_S = 0.5


class Interruption(tune.Stopper):
    """Once it has an error, Tune ends all trials, and whoever runs it raises the error."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is ended for its result."""
        return False

    def stop_all(self) -> bool:
        """Whether all trials are to end."""
        return self.error is not None


class Follower(tune.Callback):
    """In the driver: records what becomes of each trial, and shows how far they are; both end with an interruption."""

    def __init__(
        self,
        folder: Folder,
        metric: str | None,
        build: Callable[[dict[str, Any]], Trial],
        outcomes: list[Outcome],
        num_left: int,
        on_progress: Progress,
    ):
        self.folder, self.metric, self.build = folder, metric, build
        self.outcomes, self.on_progress = list(outcomes), on_progress
        self.total, self.looked = len(outcomes) + num_left, 0.0
        self.running: dict[str, Outcome] = {}  # by the id that Tune gives
        self.desk: Any = None
        self.interruption = Interruption()
        self.show("continued" if outcomes else "started")

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune stores its experiment, which nothing continues from, and progress bars cannot be stored."""
        return {}

    def show(self, note: str) -> None:
        """A line of progress."""
        try:
            self.on_progress("trials", len(self.outcomes), self.total, note)
        except BaseException as error:  # raised later: Tune would leave its actors behind
            self.interruption.error = self.interruption.error or error

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that it runs: should all be interrupted, it is known."""
        built = self.build(trial.config)
        outcome = self.running[trial.trial_id] = Outcome(built.name, built.settings)
        write_outcome(self.folder, outcome)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Finished, stopped by the scheduler, or failed by a mistake in its settings."""
        result = trial.last_result
        if "mistake" in result:
            fault = self.fault_of(trial)
            trace = fault.trace if fault is not None else None  # none of a metric that is missing
            self.end(trial, "failed", trace, error=result["mistake"], seconds=result["seconds"])
        else:
            known: dict[str, Any] = {"seconds": result["seconds"], "figures": result.get("figures")}
            if self.metric is not None:
                known |= {"metric": self.metric, "value": result[self.metric], "epoch": result["epoch"]}
            self.end(trial, "finished" if "ended" in result else "stopped", **known)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Failed as often as it may. A storage that is still away ends them all: the same command goes on."""
        fault = self.fault_of(trial)
        if fault is None:
            text = str(trial.get_error())
            self.end(trial, "failed", text, error=f"the trial's process ended: {last_line(text)}")
        elif fault.may_pass:
            self.interruption.error = self.interruption.error or StorageError(fault.line, "unavailable")
        else:
            self.end(trial, "failed", fault.trace, error=fault.line)

    def fault_of(self, trial: Any) -> Any:
        """What its last attempt said of itself; None where that could not."""
        return ray.get(self.desk.fault.remote(self.running[trial.trial_id].name))

    def end(self, trial: Any, status: str, trace: str | None = None, **known: Any) -> None:
        """Record an outcome; trace: of what failed."""
        if self.interruption.error:
            return
        outcome = replace(self.running.pop(trial.trial_id), status=status, **known)
        write_outcome(self.folder, outcome, trace)
        self.outcomes.append(outcome)
        value = f"{self.metric} {outcome.value:.4f}" if outcome.value is not None else outcome.error
        self.show(f"{outcome.name} {status}" + (f": {value}" if value else ""))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Now and then: what the running trials are at."""
        if time.monotonic() - self.looked < POLL_S or not self.running:
            return
        progress = ray.get(self.desk.read.remote())
        states = [(o.name, progress[o.name]) for o in self.running.values() if o.name in progress]
        texts = [f"{name} {done / max(1, total):.0%} {note}" for name, (done, total, note) in states[:3]]
        more = f" and {len(states) - 3} more" if len(states) > 3 else ""
        self.show("; ".join(texts) + more if texts else f"{len(self.running)} starting")
        self.looked = time.monotonic()


def last_line(text: str) -> str:
    """Of a traceback: what went wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")
