"""Runs below a folder, told from the files that they write anyway: what each is, how far, and whether it lives.

Nothing is written and no torch imported, so that a laptop can look at what a cluster trains.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from seit_ray.storage import Folder, StorageError, split_uri
from seit_ray.storage.lock import LOCK
from seit_ray.studies.run_files import METRICS, MODEL, Place, find_runs
from seit_ray.studies.trials import RECORD as TRIAL

MAX_BYTES = 64 << 20  # of a file that is read; metrics of a long run have some MB
TOGETHER = 64  # runs whose files are fetched at once
SILENT_S, SPACINGS = 120.0, 3.0  # unchanged for longer than this, and than so many records of metrics take: stopped


@dataclass(frozen=True)
class Run:
    """A run as its files tell. state: running, failed, stopped, done or unreadable, with a note on why.

    verb: that of its record, else the kind of its model; config: of its record, else the settings of its trial;
    metrics: the last value of each; modified: its last change, in seconds UTC, age_s ago.
    """

    name: str
    uri: str
    verb: str
    state: str
    note: str
    modified: float
    age_s: float
    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()


@dataclass
class Contents:
    """The parsed files of a run by what they are, and the fault of the first that cannot be read."""

    record: dict[str, Any] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    trial: dict[str, Any] = field(default_factory=dict)
    lock: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    fault: str = ""


def list_runs(folder: Folder, *, now: float | None = None) -> list[Run]:
    """All runs in a folder and below it, by name; ValueError when it cannot be listed."""
    places = find_runs(folder)
    names, runs = iter(places), list[Run]()
    while batch := list(islice(names, TOGETHER)):
        runs += read_runs(folder, {name: places[name] for name in batch}, now)
    return runs


def read_run(folder: Folder, *, now: float | None = None) -> Run:
    """The run in a folder, or the only one below it; ValueError when there is none, or more than one."""
    places = find_runs(folder)
    if not places or ("" not in places and len(places) > 1):
        found = f"{len(places)} runs are below it" if places else "no verb has written there"
        raise ValueError(
            f"{folder.uri} is no run: {found}; expected a folder with {METRICS}, {MODEL} or <verb>.run.json; name one"
        )
    name = next(iter(places))
    return next(read_runs(folder, {name: places[name]}, now))


def read_runs(folder: Folder, places: dict[str, Place], now: float | None) -> Iterator[Run]:
    """The runs at these places of a folder; their files are fetched at once."""
    wanted = {name: files_of(name, place) for name, place in places.items()}
    paths = [path for files in wanted.values() for path in files.values()]
    contents = dict(zip(paths, folder.read_many(paths, max_bytes=MAX_BYTES), strict=True))
    for name, files in wanted.items():
        parsed = parse_all({kind: (path, contents[path]) for kind, path in files.items()})
        if not name and not parsed.record:
            parsed.trial = trial_above(folder)
        yield run_of(folder.uri_of(name), name or ".", places[name], parsed, time.time() if now is None else now)


def files_of(name: str, place: Place) -> dict[str, str]:
    """Kind, as the fields of `Contents` -> path in the folder that was listed."""
    files = {
        "record": place.record,
        "records": METRICS if METRICS in place.files else None,
        "model": MODEL if MODEL in place.files else None,
        "checkpoint": None if place.is_done else place.checkpoint,
        "error": f"{place.verb}.error.txt" if place.has_failed else None,
        "lock": None if place.is_done else LOCK,
    }
    found = {kind: joined(name, file) for kind, file in files.items() if file}
    return found | ({"trial": joined(name.rpartition("/")[0], TRIAL)} if place.is_trial else {})


def joined(folder: str, name: str) -> str:
    """A path below the folder that was listed."""
    return f"{folder}/{name}" if folder else name


def trial_above(folder: Folder) -> dict[str, Any]:
    """Of a run that was named itself: the record of its trial, beside its folder."""
    parent, name = split_uri(folder.uri)
    content = folder.at(parent).read_many([TRIAL], max_bytes=MAX_BYTES)[0] if name else b"{}"
    return parse_all({"trial": (TRIAL, content)}).trial


def parse_all(files: dict[str, tuple[str, bytes | StorageError]]) -> Contents:
    """Whatever can be read of kind -> (path, content); what went away since it was listed is left out."""
    parsed = Contents()
    for kind, (path, content) in files.items():
        try:
            if isinstance(content, StorageError):
                if content.kind != "missing":
                    raise content
            elif kind == "error":
                lines = content.decode(errors="replace").split("\n")
                parsed.error = next((line.strip() for line in reversed(lines) if line.strip()), "")
            elif kind == "records":
                for line in content.splitlines():
                    path = f"{path.partition(' line ')[0]} line {len(parsed.records) + 1}"
                    parsed.records.append(mapping(line))
            else:
                setattr(parsed, kind, mapping(content))
        except (ValueError, RecursionError) as error:
            parsed.fault = parsed.fault or f"{path.rpartition('/')[2]}: {error}"
    return parsed


def mapping(text: bytes) -> dict[str, Any]:
    """A JSON mapping; ValueError when it is something else."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}; expected a mapping")
    return value


def run_of(uri: str, name: str, place: Place, parsed: Contents, now: float) -> Run:
    """A run, from what was listed and read of it."""
    config = mapping_at(parsed.record, "config")
    loop, marks = mapping_at(config, "loop"), {**parsed.model, **parsed.checkpoint}
    metrics = numbers([*parsed.records, mapping_at(parsed.model, "metrics")])
    counts = numbers([marks, loop, {name: metrics.pop(name) for name in ("step", "epoch") if name in metrics}])
    renewed = min(now, numbers([parsed.lock]).get("time", 0.0))
    modified = max(datetime.fromisoformat(place.modified).timestamp(), renewed)
    spacing_s = mean_spacing_s(parsed.records, counts.get("global_batch_size", 0))
    state, note = state_of(place, parsed, now - modified, spacing_s)
    words = parsed.record.get("command")
    stage = uri.rpartition("/")[2] if parsed.trial else "?"  # a trial keeps no records of its stages
    return Run(
        name=name,
        uri=uri,
        verb=str(place.verb or marks.get("kind", stage)),
        state=state,
        note=note,
        modified=modified,
        age_s=max(0.0, now - modified),
        step=whole(counts.get("step")),
        steps=whole(counts.get("steps")),
        epoch=counts.get("epoch"),
        epochs=counts.get("epochs"),
        metrics=metrics,
        config=config or mapping_at(parsed.trial, "settings"),
        command=tuple(map(str, words)) if isinstance(words, list) else (),
    )


def state_of(place: Place, parsed: Contents, age_s: float, spacing_s: float) -> tuple[str, str]:
    """(state, note) of a run that changed so long ago, and records its metrics so often."""
    status = parsed.trial.get("status")
    if parsed.fault:
        return "unreadable", parsed.fault
    if place.is_done:
        return "done", ""
    if place.has_failed or status == "failed":
        return "failed", parsed.error or str(parsed.trial.get("error") or "")
    if status == "stopped":
        return "stopped", "by the scheduler of its sweep"
    if age_s <= max(SILENT_S, SPACINGS * spacing_s):
        return "running", ""
    return "stopped", "no checkpoint to continue from" if METRICS in place.files and not place.checkpoint else ""


def mean_spacing_s(records: list[dict[str, Any]], batch_size: float) -> float:
    """Seconds from one record of metrics to the next, by their steps and rates; 0 where they do not tell."""
    spacings, before = list[float](), 0.0
    for record in records:
        found = numbers([record])
        if "step" in found and found.get("samples_per_s", 0) > 0:
            spacings.append((found["step"] - before) * batch_size / found["samples_per_s"])
        before = found.get("step", before)
    return sum(spacings) / len(spacings) if spacings else 0.0


def numbers(mappings: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of every key that has a number."""
    return {
        name: value
        for values in mappings
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def whole(value: float | None) -> int | None:
    """A count; None for what is none."""
    return int(value) if value is not None and math.isfinite(value) else None


def mapping_at(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping at a key; an empty one where there is none."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}
