"""A sweep: which trials there are, and which are known from earlier calls. Plain values; Ray Tune runs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from seit_ray.runs.settings import WorkerSettings
from seit_ray.storage import Folder
from seit_ray.studies.contents import refuse_other_contents
from seit_ray.studies.proposals import Ranges, proposal_from
from seit_ray.studies.trials import Outcome, Settings, Trial, read_outcomes


@dataclass(frozen=True)
class SearchSettings:
    """Searcher and scheduler of a sweep; fields as in `config.Search`."""

    searcher: str = "random"
    num_trials: int = 16
    seed: int = 0
    scheduler: str = "none"
    grace_epochs: int = 1
    reduction_factor: int = 3
    max_concurrent: int | None = None


@dataclass(frozen=True)
class SweepJob:
    """build: settings -> trial, in any process. trials: all settings in order; None where Optuna proposes them.

    contents: of the files that trials read from elsewhere, by address, what tells them from others.
    """

    folder: Folder
    build: Callable[[Settings], Trial]
    metric: str
    mode: str
    workers: WorkerSettings
    search: SearchSettings
    ranges: Ranges
    trials: list[Settings] | None
    max_epochs: int
    contents: dict[str, str] = field(default_factory=dict)

    def listed(self) -> dict[str, Trial]:
        """Name -> trial of a list; settings that come to the same training are one trial."""
        return {trial.name: trial for trial in map(self.build, self.trials or ())}

    def known(self) -> list[Outcome]:
        """What is recorded of the trials of this space, with the trainings as they are set now."""
        recorded = read_outcomes(self.folder)
        if self.trials is not None:
            listed = self.listed()
            return [replace(o, settings=listed[o.name].settings) for o in recorded if o.name in listed]
        proposed = [o for o in recorded if proposal_from(o.settings, self.ranges) is not None]
        return [o for o in proposed if self.build(o.settings).name == o.name]

    def check(self) -> None:
        """ValueError, before any trial: no such searcher or scheduler to be had, other data or another metric."""
        refuse_other_contents(self.folder, self.contents)
        for metric in {outcome.metric for outcome in read_outcomes(self.folder)} - {None, self.metric}:
            raise ValueError(
                f"{self.folder.uri} has trials that were measured and stopped by {metric} (now {self.metric}); "
                "expected the same, so that they can be compared; choose another name or output"
            )
        if self.trials is None and importlib.util.find_spec("optuna") is None:
            raise ValueError(
                "search.searcher optuna without the package optuna; expected it installed; pip install optuna, or "
                "search at random"
            )
        if self.search.scheduler == "asha" and self.search.grace_epochs >= self.max_epochs:
            raise ValueError(
                f"search.grace_epochs {self.search.grace_epochs} of {self.max_epochs} epochs; expected fewer, so that "
                "a trial can be stopped; lower it or lengthen loop.epochs"
            )
