"""A study in this process, one trial after another, without Ray: on a laptop, and in tests."""

from __future__ import annotations

import pkgutil
import time
import traceback
from dataclasses import replace
from typing import Any

from seit_ray.progress import Progress, silent
from seit_ray.runs.here import run_here
from seit_ray.storage.errors import may_pass
from seit_ray.studies.queue import Queue
from seit_ray.studies.study import Study, lost_outcome, note_call
from seit_ray.studies.trials import Outcome, Trial, error_line, write_outcome


def run_in_process(study: Study, on_progress: Progress = silent) -> list[Outcome]:
    """Run what is missing of a study; the outcomes of all its trials, in order.

    What has finished is kept, what was interrupted continues from its checkpoint, what failed is tried again. A trial
    that fails ends no other but those that need it.
    """
    done = {outcome.name: outcome for outcome in study.finished()}
    queue, total, since = Queue(study.trials, done), len(study.trials), time.monotonic()
    ended: list[Outcome] = []
    on_progress("trials", len(done), total, "continued" if done else "started")
    try:
        while (trial := queue.next()) is not None:
            outcome = run_trial(study, trial, on_progress)
            done[trial.name] = outcome
            ended.append(outcome)
            queue.end(trial.name, good=outcome.status == "finished")
            on_progress("trials", len(done), total, f"{trial.name} {outcome.status}")
    finally:
        note_call(study, since, ended, slots=1)
    for name, needed in queue.lost.items():
        done[name] = lost_outcome(study, name, needed)
        write_outcome(study.folder, done[name])
    return [done[trial.name] for trial in study.trials]


def run_trial(study: Study, trial: Trial, on_progress: Progress) -> Outcome:
    """All stages of a trial; its record says at any moment what is known. Raises where a storage is in trouble."""
    began = Outcome(trial.name, trial.settings)
    write_outcome(study.folder, began)
    since = time.perf_counter()
    figures: dict[str, Any] = {}
    trace: str | None = None

    def show(phase: str, done: int, total: int, note: str = "") -> None:
        on_progress(trial.name, done, total, f"{phase} {note}".strip())

    try:
        for stage in trial.stages:
            figures = run_here(pkgutil.resolve_name(stage.function), stage.arguments, show)
        outcome = replace(began, status="finished", figures=figures)
    except Exception as error:
        if may_pass(error):  # the same command goes on where this one ends
            raise
        outcome = replace(began, status="failed", error=error_line(error))
        trace = traceback.format_exc()
    outcome = replace(outcome, seconds=time.perf_counter() - since)
    write_outcome(study.folder, outcome, trace)
    return outcome
