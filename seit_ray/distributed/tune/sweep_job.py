"""A sweep on Ray Tune. What it continues from are its own records: trials/<name>/trial.json, and the trials' runs."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Before an experiment: no log files of Tune's own for each trial, no Ctrl-C that it swallows, no list of errors.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints errors however silent it is told to be

import ray
import ray.util.client
from ray import tune

from seit_ray.distributed.resources import Resources, num_concurrent, trial_resources
from seit_ray.distributed.tune.follower import Follower, Interruption
from seit_ray.distributed.tune.search import OptunaProposals, successive_halving
from seit_ray.distributed.tune.trial import Desk, TrialActor
from seit_ray.progress import Progress, silent
from seit_ray.studies.proposals import Ranges, settings_from
from seit_ray.studies.sweep import SweepJob
from seit_ray.studies.trials import Outcome, Settings, Trial
from seit_ray.training.metrics import read_metrics


def proposals_of(job: SweepJob, kept: list[Outcome], interrupted: list[Settings]) -> OptunaProposals:
    """Optuna, knowing what there is."""
    finished = [(outcome.settings, outcome.value) for outcome in kept if outcome.value is not None]
    return OptunaProposals(job.ranges, job.metric, job.mode, job.search.seed, finished, interrupted)


def scheduler_of(job: SweepJob, kept: list[Outcome]) -> Any:
    """Successive halving, knowing what there is."""
    return successive_halving(
        job.metric,
        job.mode,
        max_epochs=job.max_epochs,
        grace_epochs=job.search.grace_epochs,
        reduction_factor=job.search.reduction_factor,
        history=[(o.name, read_metrics(job.build(o.settings).stages[-1].run)) for o in kept],
    )


def run_sweep(job: SweepJob, cluster: Resources, on_progress: Progress = silent) -> list[Outcome]:
    """Run what is missing of a sweep; the outcomes of all its trials, in order.

    Finished and stopped trials are kept, interrupted ones continue from their checkpoints, failed ones are tried
    again. A trial that fails does not end the sweep.
    """
    job.check()
    if ray.util.client.ray.is_connected():
        raise ValueError("sweep over a ray:// connection; expected a driver in the cluster; use seit-ray submit sweep")
    known = job.known()
    kept = {outcome.name: outcome for outcome in known if outcome.status in ("finished", "stopped")}
    listed = job.listed()
    if job.trials is None:
        num_left = max(0, job.search.num_trials - len(kept))
        interrupted = [outcome.settings for outcome in known if outcome.status == "running"]
        proposals = proposals_of(job, list(kept.values()), interrupted) if num_left else None
        tuned = {"search_alg": proposals, "num_samples": num_left}
        space, build = {}, functools.partial(proposed_trial, build=job.build, ranges=job.ranges)
    else:
        left = [trial for name, trial in listed.items() if name not in kept]
        num_left, tuned = len(left), {}
        # by their places: Tune would look for spaces of its own in the values
        space = {"place": tune.grid_search(list(range(num_left)))}
        build = functools.partial(listed_trial, trials=left)
    follower = Follower(job.folder, job.metric, build, list(kept.values()), num_left, on_progress)
    if num_left:
        run_trials(job, cluster, follower, space, tuned)
    done = {outcome.name: outcome for outcome in follower.outcomes}
    return [done[name] for name in (listed or done)]


def listed_trial(config: dict[str, Any], *, trials: list[Trial]) -> Trial:
    """The trial at a place of a list."""
    return trials[config["place"]]


def proposed_trial(config: dict[str, Any], *, build: Callable[[Settings], Trial], ranges: Ranges) -> Trial:
    """The trial that Optuna proposed."""
    return build(settings_from(config, ranges))


def run_trials(
    job: SweepJob, cluster: Resources, follower: Follower, space: dict[str, Any], tuned: dict[str, Any]
) -> None:
    """The Tune experiment."""
    concurrent = num_concurrent(job.workers, cluster, job.search.max_concurrent)
    # with workers, these take the resources: what the trial itself held would be missing there
    needs = trial_resources(job.workers, cluster) if job.workers.num_workers == 0 else {"memory": 1.0}
    desk: Any = ray.remote(num_cpus=0)(Desk).remote()
    follower.desk = desk
    shared = {"desk": desk, "cluster": cluster, "metric": job.metric, "workers": job.workers}
    actor = tune.with_parameters(TrialActor, build=follower.build, **shared)
    scheduler = scheduler_of(job, follower.outcomes) if job.search.scheduler == "asha" else None
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    place = tempfile.mkdtemp(prefix="seit_ray-tune-")  # Tune's own bookkeeping: nothing is continued from it
    try:
        tuner = tune.Tuner(
            tune.with_resources(actor, tune.PlacementGroupFactory([needs])),
            param_space=space,
            tune_config=tune.TuneConfig(
                scheduler=scheduler, max_concurrent_trials=concurrent, reuse_actors=True, **tuned
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=place,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=job.workers.max_failures),
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
