"""An experiment of Ray Tune: the trials of a sweep or a study, each an actor of its own."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.util.client
from ray import tune

from seit_ray.distributed.resources import Resources, trial_resources
from seit_ray.distributed.tune.follower import Follower, Interruption
from seit_ray.distributed.tune.trial import Desk, TrialActor
from seit_ray.runs.settings import WorkerSettings


def refuse_client(verb: str) -> None:
    """ValueError over ray://, where the driver's callbacks would run elsewhere."""
    if ray.util.client.ray.is_connected():
        raise ValueError(
            f"{verb} over a ray:// connection; expected a driver in the cluster; use seit-ray submit {verb}"
        )


@dataclass(frozen=True)
class Experiment:
    """How trials are run: `concurrent` at a time, each by `workers`; metric: None where nothing is compared."""

    metric: str | None
    workers: WorkerSettings
    cluster: Resources
    concurrent: int
    space: dict[str, Any] = field(default_factory=dict)
    scheduler: Any = None

    def run(self, follower: Follower, **tuned: Any) -> None:
        """To the end of all trials, which the follower records. tuned: more of `tune.TuneConfig`."""
        # with workers, these take the resources: what the trial itself held would be missing there
        needs = trial_resources(self.workers, self.cluster) if self.workers.num_workers == 0 else {"memory": 1.0}
        desk: Any = ray.remote(num_cpus=0)(Desk).remote()
        follower.desk = desk
        shared = {"desk": desk, "cluster": self.cluster, "metric": self.metric, "workers": self.workers}
        actor = tune.with_parameters(TrialActor, build=follower.build, **shared)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        place = tempfile.mkdtemp(prefix="seit_ray-tune-")  # Tune's own bookkeeping: nothing is continued from it
        try:
            tuner = tune.Tuner(
                tune.with_resources(actor, tune.PlacementGroupFactory([needs])),
                param_space=self.space,
                tune_config=tune.TuneConfig(
                    scheduler=self.scheduler, max_concurrent_trials=self.concurrent, reuse_actors=True, **tuned
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=place,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=self.workers.max_failures),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a run has its own
                    callbacks=[follower],
                    stop=follower.interruption,
                ),
            )
            with interrupting(follower.interruption):
                tuner.fit()
        finally:
            ray.kill(desk)
            shutil.rmtree(place, ignore_errors=True)
        if follower.interruption.error:
            raise follower.interruption.error


@contextlib.contextmanager
def interrupting(interruption: Interruption) -> Iterator[None]:
    """A block in which Ctrl-C ends the trials first; a second one acts as it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread: whoever runs it decides
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: object) -> None:
        interruption.error = KeyboardInterrupt()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
