"""A study: a list of trials, each a pure description with a name of its own, in one folder. Plain values.

study.json says what the folder holds, trials/<name>/trial.json what became of each trial, calls.jsonl how long each
call took and how busy it was. Ray Tune runs it (`distributed.tune.study_job`), or this process (`in_process`).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seit_ray.runs.settings import WorkerSettings
from seit_ray.storage import Folder
from seit_ray.storage.output import claim
from seit_ray.studies.contents import note_contents, refuse_other_contents
from seit_ray.studies.trials import Outcome, Trial, read_outcomes

PLAN, CALLS = "study.json", "calls.jsonl"
SEED = "seed"  # of a trial's settings: what has none is made for others, and measures nothing
SHOWN = 3  # arms or keys that a message names
MAX_SLUG = 48


@dataclass(frozen=True)
class TrialSettings:
    """How the trials of a study are run; fields as in `config.Trials`."""

    max_concurrent: int | None = None
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    max_failures: int = 3

    def workers(self) -> WorkerSettings:
        """A trial is one process."""
        return WorkerSettings(0, self.gpus_per_trial, self.cpus_per_trial, self.max_failures)


@dataclass(frozen=True)
class Study:
    """Trials in order, in a folder. decided_by: the user's keys that decide the results, with their values.

    contents: of the files that trials read from elsewhere, by address, what tells them from others. A trial's settings
    name its arm and whatever sets it apart, and, of what is measured, the seed.
    """

    name: str
    folder: Folder
    trials: tuple[Trial, ...]
    decided_by: dict[str, Any]
    contents: dict[str, str] = field(default_factory=dict)

    def arms(self) -> list[str]:
        """What is measured, but for the seeds, in order."""
        return list(dict.fromkeys(arm_of(trial.settings) for trial in self.trials if SEED in trial.settings))

    def check(self) -> None:
        """ValueError where nothing would be measured, and where the folder holds something else.

        So does a study of other arms or settings, which are named.
        """
        if not self.arms():
            raise ValueError(f"{self.name} without an arm; expected one at least to be measured; name some")
        claim(self.folder, (PLAN,))
        if self.folder.exists(PLAN):
            refuse_other(self.folder, json.loads(self.folder.read(PLAN)), self.plan())
        refuse_other_contents(self.folder, self.contents)

    def plan(self) -> dict[str, Any]:
        """What study.json says, as JSON gives it back."""
        return json.loads(json.dumps({"study": self.name, "arms": self.arms(), "decided_by": self.decided_by}))

    def begin(self) -> None:
        """Make the folder ours."""
        self.check()
        if not self.folder.exists(PLAN):
            self.folder.write(PLAN, json.dumps(self.plan(), indent=1).encode())
        note_contents(self.folder, self.contents)

    def known(self) -> list[Outcome]:
        """What is recorded of these trials; of other seeds nothing."""
        names = {trial.name for trial in self.trials}
        return [outcome for outcome in read_outcomes(self.folder) if outcome.name in names]

    def finished(self) -> list[Outcome]:
        """What need not be done again."""
        return [outcome for outcome in self.known() if outcome.status == "finished"]


def trial_name(what: str, decided_by: Mapping[str, Any]) -> str:
    """A name for people, and ten hexadecimal digits of all that decides the result: the same trial has the same."""
    slug = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")[:MAX_SLUG].rstrip("-")
    return f"{slug}-{hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()[:10]}"


def arm_of(settings: Mapping[str, Any]) -> str:
    """What a trial's settings say but for the seed, on one line."""
    return ", ".join(str(value) for key, value in settings.items() if key != SEED)


def refuse_other(folder: Folder, before: dict[str, Any], now: dict[str, Any]) -> None:
    """ValueError naming what differs between the study that a folder holds and the one that is asked for."""
    if before["study"] != now["study"]:
        raise ValueError(
            f"{folder.uri} holds a study {before['study']}; expected one of {now['study']}; choose another output"
        )
    gone = [arm for arm in before["arms"] if arm not in now["arms"]]
    come = [arm for arm in now["arms"] if arm not in before["arms"]]
    keys = before["decided_by"].keys() | now["decided_by"].keys()
    other = [
        f"{key} {before['decided_by'].get(key)!r} (now {now['decided_by'].get(key)!r})"
        for key in sorted(keys)
        if before["decided_by"].get(key) != now["decided_by"].get(key)
    ]
    if gone or come:
        said = [f"{word} {some(arms)}" for word, arms in (("without", gone), ("with", come)) if arms]
        raise ValueError(
            f"{folder.uri} holds a study of other arms: now {' and '.join(said)}; expected the same arms; name them as "
            "they were, or choose another output"
        )
    if other:
        raise ValueError(
            f"{folder.uri} holds a study with {some(other)}; expected the same settings; choose another output"
        )


def some(texts: Sequence[str]) -> str:
    """The first of them, and how many more."""
    return " | ".join(texts[:SHOWN]) + (f" | {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")


def lost_outcome(study: Study, name: str, needed: str) -> Outcome:
    """Of a trial that never ran, since what it needs has failed."""
    trial = next(trial for trial in study.trials if trial.name == name)
    return Outcome(name, trial.settings, "failed", error=f"needs {needed}, which failed")


@dataclass(frozen=True)
class Call:
    """One call: seconds from its first trial to its last, seconds that trials ran, and how many could at once."""

    wall_s: float
    busy_s: float
    slots: int
    trials: int

    @property
    def idle_share(self) -> float:
        """Of the time of all slots: in which no trial ran; starts of processes, and attempts that failed, count."""
        return max(0.0, 1 - self.busy_s / max(self.wall_s * self.slots, 1e-9))


def note_call(study: Study, since: float, outcomes: Sequence[Outcome], slots: int) -> None:
    """Add a call that began at `since` (time.monotonic()) to calls.jsonl; outcomes: those that ended in it."""
    busy = sum(outcome.seconds or 0.0 for outcome in outcomes)
    call = Call(time.monotonic() - since, busy, slots, len(outcomes))
    if not outcomes:
        return
    before = study.folder.read(CALLS) if study.folder.exists(CALLS) else b""
    line = json.dumps({name: round(value, 6) for name, value in vars(call).items()})
    study.folder.write(CALLS, before + line.encode() + b"\n")


def read_calls(folder: Folder) -> list[Call]:
    """All calls of a study that ended."""
    lines = folder.read(CALLS).splitlines() if folder.exists(CALLS) else []
    return [Call(**json.loads(line)) for line in lines]
