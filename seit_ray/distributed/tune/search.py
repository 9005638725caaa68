"""What proposes and ends trials: Optuna and successive halving, both fed with the trials of an earlier call."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from seit_ray.studies.proposals import Ranges, num_steps, proposal_from

MAX_REPEATS = 100  # proposals in a row that have been made before; the space is then taken for exhausted


def distributions(ranges: Ranges) -> dict[str, Any]:
    """Optuna's form of a space: the place of a value in its list, since that may hold lists, or its number of steps."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for key, (kind, values) in ranges.items():
        if kind == "choice":
            found[key] = CategoricalDistribution(range(len(values)))
        elif kind == "quniform":
            found[key] = IntDistribution(0, num_steps(*values))
        else:
            low, high = map(float, values)
            found[key] = FloatDistribution(low, high, log=kind == "loguniform")
    return found


class OptunaProposals(Searcher):
    """Optuna's ask and tell; never proposes the same twice. finished: (settings, value); interrupted: settings."""

    def __init__(
        self,
        ranges: Ranges,
        metric: str,
        mode: str,
        seed: int,
        finished: Iterable[tuple[dict[str, Any], float]] = (),
        interrupted: Iterable[dict[str, Any]] = (),
    ):
        super().__init__(metric=metric, mode=mode)
        import optuna  # an extra; `SweepJob.check` has looked for it

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.failed = distributions(ranges), optuna.trial.TrialState.FAIL
        sampler = optuna.samplers.TPESampler(seed=seed)
        self.study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")
        self.asked: dict[str, Any] = {}
        self.proposed: set[str] = set()
        for settings, value in finished:
            if proposal := proposal_from(settings, ranges):
                self.is_new(proposal)
                known = optuna.trial.create_trial(params=proposal, distributions=self.space, value=value)
                self.study.add_trial(known)
        for settings in interrupted:
            if proposal := proposal_from(settings, ranges):
                self.study.enqueue_trial(proposal)

    def is_new(self, proposal: dict[str, Any]) -> bool:
        """Whether it was not proposed before; it then has been."""
        text = json.dumps(proposal, sort_keys=True)
        before, self.proposed = text in self.proposed, self.proposed | {text}
        return not before

    def suggest(self, trial_id: str) -> Any:
        """The next proposal, a dict, or FINISHED where there is none."""
        for _ in range(MAX_REPEATS):
            trial = self.study.ask(self.space)
            if self.is_new(trial.params):
                self.asked[trial_id] = trial
                return dict(trial.params)
            self.study.tell(trial, state=self.failed)
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Only the end of a trial counts."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna the value of a trial, stopped ones too, or that it failed."""
        value = (result or {}).get(self.metric)
        trial = self.asked.pop(trial_id)
        if error or value is None:
            self.study.tell(trial, state=self.failed)
        else:
            self.study.tell(trial, value)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trials' own records are what a sweep continues from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


def successive_halving(
    metric: str,
    mode: str,
    *,
    max_epochs: int,
    grace_epochs: int,
    reduction_factor: int,
    history: Iterable[tuple[str, list[dict[str, Any]]]] = (),
) -> ASHAScheduler:
    """ASHA over epochs (Li et al., arXiv 1810.05934); history: (trial, records) of earlier calls."""
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=metric,
        mode=mode,
        max_t=max(grace_epochs, max_epochs - 1),  # a trial in its last epoch is left to end
        grace_period=grace_epochs,
        reduction_factor=reduction_factor,
        stop_last_trials=False,
    )
    controller: Any = None  # ASHA asks nothing of it, and of a trial the id alone
    for name, records in history:
        trial: Any = SimpleNamespace(trial_id=name)
        scheduler.on_trial_add(controller, trial)
        for record in records:
            scheduler.on_trial_result(controller, trial, record)
    return scheduler
