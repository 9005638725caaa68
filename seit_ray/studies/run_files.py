"""Which folders are runs, and what a listing alone tells of them: nothing is opened here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from seit_ray.storage import Folder
from seit_ray.studies.trials import RECORD as TRIAL

METRICS, MODEL = "metrics.jsonl", "model.json"
# What stands when a verb has ended, where that is no model; None: its record, which it writes last.
MARKERS = {
    "fit_tokenizer": "tokenizer.json",
    "tokenize_images": "dataset.json",
    "import_tokens": "dataset.json",
    "recode_tokens": "dataset.json",
    "quickstart": "report.html",
    "sweep": "report.html",
    "export_tokens": "about.json",
    "predict": None,
}
RECORD = re.compile(r"(?:.+\.)?(\w+)\.run\.json")  # of one of several tables of predictions, behind its name
CHECKPOINT = re.compile(r"(?:(.+)/)?checkpoints/step-\d+/checkpoint\.json")
READ = {METRICS, MODEL, TRIAL, *MARKERS.values()}


def marker_of(verb: str) -> str | None:
    """What stands when a verb has ended; of all studies, the report."""
    return "report.html" if verb.startswith("study_") else MARKERS.get(verb, MODEL)


@dataclass
class Place:
    """A folder: when anything in it changed last, its files that tell of a run with their times (ISO 8601, UTC)."""

    modified: str = ""
    files: dict[str, str] = field(default_factory=dict)
    checkpoint: str | None = None  # the newest one: its marker's path in the folder
    is_trial: bool = False  # the folder above holds the record of a trial

    @property
    def record(self) -> str | None:
        """The newest record; predictions may lie in the folder of a run, which wins."""
        found = [(marker_of(verb) is not None, self.files[name], name) for name, verb in self._verbs().items()]
        return max(found)[2] if found else None

    @property
    def verb(self) -> str | None:
        """That of the record."""
        return self._verbs()[self.record] if self.record else None

    def _verbs(self) -> dict[str, str]:
        """Name of each record -> verb."""
        return {name: found[1] for name in self.files if (found := RECORD.fullmatch(name))}

    @property
    def _calls(self) -> tuple[str, str]:
        """The record and the history of later calls."""
        stem = (self.record or "").removesuffix(".run.json")
        return f"{stem}.run.json", f"{stem}.history.jsonl"

    @property
    def is_run(self) -> bool:
        """Whether a verb wrote to it."""
        return bool(self.verb or self.checkpoint or {METRICS, MODEL} & set(self.files))

    @property
    def is_done(self) -> bool:
        """Whether what its verb writes last stands; a report, which each call writes again, behind the record."""
        marker = marker_of(self.verb or "") or self._calls[0]
        newer = any(self._is_older(marker, call) for call in self._calls)
        return marker in self.files and (marker != "report.html" or not newer)

    @property
    def has_failed(self) -> bool:
        """Whether its verb left a traceback, and nothing was begun or recorded after that."""
        error = f"{self.verb}.error.txt"
        return error in self.files and not any(self._is_older(error, name) for name in (METRICS, *self._calls))

    def _is_older(self, name: str, other: str) -> bool:
        return self.files.get(name, "") < self.files.get(other, "")  # the times sort as text


def find_runs(folder: Folder) -> dict[str, Place]:
    """The runs in a folder and below, by path in it ('' for itself), sorted; ValueError when it cannot be listed."""
    folder.check_readable()
    places: dict[str, Place] = {}
    for entry in folder.list():
        path, _, file = entry.name.rpartition("/")
        place = places.setdefault(path, Place())
        place.modified = max(place.modified, entry.modified)
        if file in READ or file.endswith((".run.json", ".history.jsonl", ".error.txt")):
            place.files[file] = entry.modified
        if found := CHECKPOINT.fullmatch(entry.name):
            owner = found[1] or ""
            places.setdefault(owner, Place()).checkpoint = entry.name[len(owner) :].lstrip("/")
    for path, place in list(places.items()):
        above = places.get(path.rpartition("/")[0])
        place.is_trial = bool(path) and above is not None and TRIAL in above.files
        while path:  # a folder lives as long as what is in it
            path = path.rpartition("/")[0]
            if path in places:
                places[path].modified = max(places[path].modified, place.modified)
    return {path: places[path] for path in sorted(places) if places[path].is_run}
