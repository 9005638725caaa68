"""A study on Ray Tune: as many trials at a time as the cluster holds, in an order that leaves no core waiting."""

from __future__ import annotations

import functools
import time
from typing import Any

from ray.tune.search import Searcher

from seit_ray.distributed.resources import Resources, num_concurrent
from seit_ray.distributed.tune.experiment import Experiment, refuse_client
from seit_ray.distributed.tune.follower import Follower
from seit_ray.progress import Progress, silent
from seit_ray.studies.queue import Queue
from seit_ray.studies.study import Study, TrialSettings, lost_outcome, note_call
from seit_ray.studies.trials import Outcome, Trial, write_outcome


class ReadyTrials(Searcher):
    """Proposes the trials of a queue as soon as what they need has finished."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self.queue = queue
        self.names: dict[str, str] = {}  # Tune's id -> the trial's name

    def suggest(self, trial_id: str) -> Any:
        """{"trial": name}; None while all that is left waits for others; FINISHED where nothing is left."""
        trial = self.queue.next()
        if trial is None:
            return Searcher.FINISHED if self.queue.is_empty else None
        self.names[trial_id] = trial.name
        return {"trial": trial.name}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Only the end of a trial counts."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """What waited for it may start, or never will."""
        self.queue.end(self.names.pop(trial_id), good=not error and "ended" in (result or {}))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trials' own records are what a study continues from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


def run_study(
    study: Study, settings: TrialSettings, cluster: Resources, on_progress: Progress = silent
) -> list[Outcome]:
    """Run what is missing of a study; the outcomes of all its trials, in order: see `in_process.run_in_process`."""
    refuse_client("study")
    kept, since = study.finished(), time.monotonic()
    workers, trials = settings.workers(), {trial.name: trial for trial in study.trials}
    queue = Queue(study.trials, {outcome.name for outcome in kept})
    num_left = len(queue.waiting)
    slots = num_concurrent(workers, cluster, settings.max_concurrent)
    follower = Follower(study.folder, None, functools.partial(named_trial, trials=trials), kept, num_left, on_progress)
    if num_left:
        experiment = Experiment(metric=None, workers=workers, cluster=cluster, concurrent=slots)
        try:
            experiment.run(follower, search_alg=ReadyTrials(queue), num_samples=num_left)
        finally:
            note_call(study, since, follower.outcomes[len(kept) :], slots)
    done = {outcome.name: outcome for outcome in follower.outcomes}
    for name, needed in queue.lost.items():
        done[name] = lost_outcome(study, name, needed)
        write_outcome(study.folder, done[name])
    return [done[trial.name] for trial in study.trials]


def named_trial(config: dict[str, Any], *, trials: dict[str, Trial]) -> Trial:
    """The trial of a name."""
    return trials[config["trial"]]
