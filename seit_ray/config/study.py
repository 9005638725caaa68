"""Keys that all studies share: where they write, which seeds, how their trials are run."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from seit_ray.config.sections import NonNegativeFloat, NonNegativeInt, PositiveInt, Section, Seed
from seit_ray.config.verbs import Verb


def all_different(values: tuple[Seed, ...]) -> tuple[Seed, ...]:
    """ValueError unless there is one at least, and none twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError("one seed or more, none of them twice")
    return values


class Trials(Section):
    """How the trials of a study are run: each is one process, as many at a time as there is room for."""

    frozen = "seit_ray.studies.study:TrialSettings"
    undecided = frozenset({"max_concurrent", "cpus_per_trial", "gpus_per_trial", "max_failures"})

    max_concurrent: NonNegativeInt | None = Field(
        None, description="trials at a time; default what the cluster holds; 0: one after another, without Ray"
    )
    cpus_per_trial: PositiveInt = Field(1, description="CPUs, and torch threads, of a trial")
    gpus_per_trial: NonNegativeFloat | None = Field(
        None, description="default: 1 if the cluster has GPUs; 0.25 lets four small trials share one"
    )
    max_failures: NonNegativeInt = Field(3, description="new attempts of a trial whose process is lost")

    @model_validator(mode="after")
    def _nothing_that_nobody_reads(self) -> Self:
        if self.max_concurrent == 0 and (self.cpus_per_trial != 1 or self.gpus_per_trial is not None):
            raise ValueError(
                f"trials.cpus_per_trial {self.cpus_per_trial} and gpus_per_trial {self.gpus_per_trial} with "
                "max_concurrent 0, where a trial has all of this machine; expected 1 and null; set them so, or another "
                "max_concurrent"
            )
        return self


class Study(Verb):
    """Keys of every study."""

    undecided = Verb.undecided | {"output", "seeds", "trials"}

    output: str = Field(description="folder of the study: a path or bucket; the same folder continues it")
    seeds: Annotated[tuple[Seed, ...], AfterValidator(all_different)] = Field(
        (0, 1, 2), description="each arm is run with each; further ones may be added to a study later"
    )
    trials: Trials = Field(default_factory=Trials)
