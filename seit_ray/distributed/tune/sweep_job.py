"""A sweep on Ray Tune. What it continues from are its own records: trials/<name>/trial.json, and the trials' runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ray import tune

from seit_ray.distributed.resources import Resources, num_concurrent
from seit_ray.distributed.tune.experiment import Experiment, refuse_client
from seit_ray.distributed.tune.follower import Follower
from seit_ray.distributed.tune.search import OptunaProposals, successive_halving
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
    refuse_client("sweep")
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
        Experiment(
            metric=job.metric,
            workers=job.workers,
            cluster=cluster,
            concurrent=num_concurrent(job.workers, cluster, job.search.max_concurrent),
            space=space,
            scheduler=scheduler_of(job, follower.outcomes) if job.search.scheduler == "asha" else None,
        ).run(follower, **tuned)
    done = {outcome.name: outcome for outcome in follower.outcomes}
    return [done[name] for name in (listed or done)]


def listed_trial(config: dict[str, Any], *, trials: list[Trial]) -> Trial:
    """The trial at a place of a list."""
    return trials[config["place"]]


def proposed_trial(config: dict[str, Any], *, build: Callable[[Settings], Trial], ranges: Ranges) -> Trial:
    """The trial that Optuna proposed."""
    return build(settings_from(config, ranges))
