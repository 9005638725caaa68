"""The trials of a sweep or a study: their stages, and what became of them, in trials/<name>/trial.json.

The traceback of one that failed is beside it, in error.txt.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from seit_ray.storage import Folder

Settings = dict[str, Any]  # key of the space -> its value
RECORD, ERROR = "trial.json", "error.txt"


@dataclass(frozen=True)
class Stage:
    """A step of a trial: one of `runs`, or of `studies`, as module:name, and its arguments with the run's folder."""

    name: str
    function: str
    arguments: dict[str, Any]

    @property
    def run(self) -> Folder:
        """Where it is written."""
        return self.arguments["run"]


@dataclass(frozen=True)
class Trial:
    """Settings, the name that follows from them, and the stages in order; the last one gives what is measured.

    needs: names of the trials that must have finished before; cost: how long it takes, in any unit that all share.
    """

    name: str
    settings: Settings
    stages: tuple[Stage, ...]
    needs: tuple[str, ...] = ()
    cost: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of a trial. status: finished; stopped, by the scheduler; failed, with an error; running.

    value: the metric at the end, or when it was stopped; metric: which that is; seconds: of the last attempt;
    figures: of a study, all that its last stage gave.
    """

    name: str
    settings: Settings
    status: str = "running"
    value: float | None = None
    epoch: float | None = None
    seconds: float | None = None
    error: str | None = None
    figures: dict[str, Any] | None = None
    metric: str | None = None


def trial_folder(sweep: Folder, name: str) -> Folder:
    """Where a trial's record and runs lie."""
    return sweep.join("trials", name)


def read_outcomes(sweep: Folder) -> list[Outcome]:
    """Of all trials that ever began, by name."""
    folders = [trial_folder(sweep, name) for name in sweep.join("trials").list_folders()]
    return [Outcome(**json.loads(folder.read(RECORD))) for folder in folders if folder.exists(RECORD)]


def write_outcome(sweep: Folder, outcome: Outcome, trace: str | None = None) -> None:
    """Record what is known of a trial; trace: of one that failed, the traceback."""
    folder = trial_folder(sweep, outcome.name)
    if trace is not None:
        folder.write(ERROR, trace.encode())
    elif outcome.status == "finished" and folder.exists(ERROR):  # of an earlier attempt
        folder.delete(ERROR)
    folder.write(RECORD, json.dumps(asdict(outcome), indent=1).encode())


def error_line(error: BaseException) -> str:
    """What went wrong, in one line: a fault of the program with its kind."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return first if isinstance(error, ValueError) else f"{type(error).__name__}: {first}"
