"""A sweep whose first training ends its own process once, behind its first checkpoint."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from seit_ray.runs.pretrain import pretrain as run_pretrain
from seit_ray.training.checkpoints import checkpoint_names


def job_that_loses_a_process(job, flag):
    """The job with another function to train by; the file `flag` says that it happened."""
    return replace(job, build=partial(build_dying, job.build, flag))


def build_dying(build, flag, settings):
    """A trial that trains by `die_once`."""
    trial = build(settings)
    stages = tuple(
        replace(s, function=f"{__name__}:die_once", arguments=s.arguments | {"flag": flag}) for s in trial.stages
    )
    return replace(trial, stages=stages)


def die_once(*, flag: Path, on_metrics, **arguments):
    """A pre-training; the first time its process ends when it reports the second time."""

    def report(record):
        if checkpoint_names(arguments["run"])[1:] and not flag.exists():
            flag.touch()
            os._exit(1)
        on_metrics(record)

    return run_pretrain(**arguments, on_metrics=report)
