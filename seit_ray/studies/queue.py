"""Which trial of a study may start next: what it needs has finished, and what most waits for comes first."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from seit_ray.studies.trials import Trial


class Queue:
    """The trials of a study that are not finished, handed out so that no core has to wait while there is work.

    Of those that may start, the one at the head of the longest way to the end (by cost) is first: short ones fill what
    is left over. ValueError where a trial needs one that is not there, or itself.
    """

    def __init__(self, trials: Sequence[Trial], finished: Collection[str] = ()) -> None:
        self.trials = {trial.name: trial for trial in trials}
        unknown = [(t.name, need) for t in trials for need in t.needs if need not in self.trials]
        if unknown:
            trial, need = unknown[0]
            raise ValueError(f"trial {trial} needs {need}, which the study has not; expected all of it; add it")
        ways = ways_to_the_end(self.trials)
        order = sorted(self.trials, key=lambda name: -ways[name])  # stable: of equal ones the first listed
        self.finished = {name for name in order if name in finished}
        self.waiting = [name for name in order if name not in self.finished]
        self.running: set[str] = set()
        self.lost: dict[str, str] = {}  # trial -> the failed one that it needs

    def next(self) -> Trial | None:
        """The next to start; None where nothing may start now."""
        for name in self.waiting:
            if self.finished.issuperset(self.trials[name].needs):
                self.waiting.remove(name)
                self.running.add(name)
                return self.trials[name]
        return None

    def end(self, name: str, *, good: bool) -> None:
        """A trial has ended: others may start, or never will."""
        self.running.discard(name)
        if good:
            self.finished.add(name)
            return
        for other in list(self.waiting):
            if other in self.waiting and name in self.trials[other].needs:
                self.waiting.remove(other)
                self.lost[other] = name
                self.end(other, good=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to start."""
        return not self.waiting


def ways_to_the_end(trials: dict[str, Trial]) -> dict[str, float]:
    """Name -> cost of the trial and of the longest chain of those that wait for it; ValueError for a circle."""
    after: dict[str, list[str]] = {name: [] for name in trials}
    open_needs = {name: len(set(trial.needs)) for name, trial in trials.items()}
    for name, trial in trials.items():
        for need in set(trial.needs):
            after[need].append(name)
    ready = [name for name, number in open_needs.items() if not number]
    order: list[str] = []
    while ready:
        name = ready.pop()
        order.append(name)
        for other in after[name]:
            open_needs[other] -= 1
            if not open_needs[other]:
                ready.append(other)
    if len(order) < len(trials):
        circle = sorted(set(trials) - set(order))[0]
        raise ValueError(f"trial {circle} needs itself, by way of others; expected an order; mend its needs")
    ways: dict[str, float] = {}
    for name in reversed(order):
        ways[name] = trials[name].cost + max((ways[other] for other in after[name]), default=0.0)
    return ways
