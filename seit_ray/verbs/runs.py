"""List the runs in a folder, on disk or in a bucket; or tell in what two of them differ.

seit-ray runs runs/
seit-ray runs s3://bucket/runs --best val_top1 storage.region=eu-central-1
seit-ray runs runs/a runs/b
"""

from __future__ import annotations

import argparse
import difflib
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from seit_ray.config.loading import flow
from seit_ray.config.sweep import is_better_low
from seit_ray.progress import duration
from seit_ray.studies.run_list import Run, list_runs, read_run
from seit_ray.verbs.command.errors import telling
from seit_ray.verbs.command.looking import STORAGE_HELP, ascii_line, grid, places_and_storage, tool_parser, utc
from seit_ray.verbs.command.places import folder_of

# What is told of a run, of those that it has: the first NUM_SHOWN.
FIGURES = (
    "val_top1",
    "probe_linear_top1",
    "probe_knn_top1",
    "val_masked_accuracy",
    "val_psnr_db",
    "val_hit_rate",
    "val_loss",
    "train_loss",
    "probe_rankme",
)
NUM_SHOWN = 4


def main(arguments: list[str]) -> None:
    """`seit-ray runs ...`."""
    parsed = parse(arguments)
    with telling("runs", debug=parsed.debug):
        print(told(parsed.words, parsed.best))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = tool_parser("runs", __doc__)
    parser.add_argument(
        "words", nargs="+", metavar="FOLDER", help=f"runs, sweeps, anything above them; two runs; {STORAGE_HELP}"
    )
    parser.add_argument("--best", metavar="METRIC", help="sort by the last value of this: of a loss the least is best")
    return parser.parse_intermixed_args(arguments)


def told(words: Sequence[str], best: str | None) -> str:
    """What the command prints; ValueError for what it cannot list."""
    places, storage = places_and_storage(words)
    if not 1 <= len(places) <= 2:
        raise ValueError(f"{len(places)} folders; expected one to list, or two runs to compare; see runs --help")
    folders = [folder_of(place, storage) for place in places]
    if len(folders) == 2:
        if best:
            raise ValueError("--best with two runs; expected it with one folder; leave it out")
        a, b = (read_run(folder) for folder in folders)
        return compared(a, b, places)
    runs = list_runs(folders[0])
    if not runs:
        raise ValueError(f"no run in {folders[0].uri} or below; expected what verbs have written; name another folder")
    shown = ranked(runs, best) if best else runs
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{number} {state}" for state, number in counts.items())
    metrics = shown_metrics(shown, best)
    found = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    heads = ("run", "verb", "state", "at", *metrics, "changed (UTC)")
    lines = [grid([heads, *(row(run, metrics) for run in shown)], f"{folders[0].uri}: {found}, {states}")]
    lines += [ascii_line(f"{run.name} {run.state}: {run.note}") for run in shown if run.note]
    return "\n".join([*lines, *(best_lines(shown, best) if best else ())])


def shown_metrics(runs: Sequence[Run], best: str | None) -> list[str]:
    """The columns of figures."""
    known = {name for run in runs for name in run.metrics}
    return list(dict.fromkeys([*([best] if best else []), *(name for name in FIGURES if name in known)]))[:NUM_SHOWN]


def row(run: Run, metrics: Sequence[str]) -> list[str]:
    """The line of a run."""
    alive = run.state in ("running", "stopped")
    state = f"{run.state}, {duration(run.age_s)} ago" if alive else run.state
    return [run.name, run.verb, state, place_of(run), *(figure(run.metrics.get(m)) for m in metrics), utc(run.modified)]


def place_of(run: Run) -> str:
    """How far a run is: its step of how many, else its epoch."""
    if run.steps and run.step is not None:
        return f"step {run.step}/{run.steps}"
    if run.epoch is not None:
        return f"epoch {run.epoch:g}" + (f"/{run.epochs:g}" if run.epochs else "")
    return "" if run.step is None else f"step {run.step}"


def figure(value: float | None) -> str:
    """A metric for a table."""
    return "" if value is None else f"{value:.5g}"


def ranked(runs: Sequence[Run], metric: str) -> list[Run]:
    """The runs that have a metric, best first; ValueError where none has it, naming those that are there."""
    found = [run for run in runs if metric in run.metrics]
    if not found:
        known = sorted({name for run in runs for name in run.metrics})
        near = difflib.get_close_matches(metric, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one"
        raise ValueError(f"unknown metric {metric}; expected one of {', '.join(known) or '(no run has any)'}; {hint}")
    sign = 1 if is_better_low(metric) else -1
    return sorted(found, key=lambda run: (math.isnan(run.metrics[metric]), sign * run.metrics[metric]))


def best_lines(runs: Sequence[Run], metric: str) -> list[str]:
    """The best run, how it was made, and how to look further."""
    best = runs[0]
    lines = [f"best {metric}: {figure(best.metrics[metric])}, {best.uri}"]
    if best.command:
        lines.append(f"made by: {command_of(best)}")
    elif best.config:
        lines.append(f"settings: {' '.join(f'{key}={flow(value)}' for key, value in best.config.items())}")
    if len(runs) > 1:
        lines.append(f"compare: {shlex.join(['seit-ray', 'runs', best.uri, runs[1].uri])}")
    return lines


def command_of(run: Run) -> str:
    """The command line of a run as one would type it."""
    program, *words = run.command
    is_module = program.endswith(("/__main__.py", "/seit-ray"))
    return shlex.join(["seit-ray" if is_module else program, *words])


def compared(a: Run, b: Run, names: Sequence[str]) -> str:
    """Two runs side by side: state, figures, and the keys in which their configs differ."""
    rows = [("", *names)]
    rows += [("verb", a.verb, b.verb), ("state", a.state, b.state), ("at", place_of(a), place_of(b))]
    known = [*FIGURES, *sorted({*a.metrics, *b.metrics} - set(FIGURES))]
    metrics = [name for name in known if name in a.metrics or name in b.metrics]
    rows += [(name, figure(a.metrics.get(name)), figure(b.metrics.get(name))) for name in metrics]
    notes = [ascii_line(f"{name} {run.state}: {run.note}") for name, run in zip(names, (a, b), strict=True) if run.note]
    one, other = dotted(a.config), dotted(b.config)
    if not one or not other:
        unknown = names[bool(one)]
        return "\n".join([grid(rows, "figures"), *notes, f"{unknown} has no <verb>.run.json: its config is not known"])
    keys = [key for key in {**one, **other} if key not in one or key not in other or one[key] != other[key]]
    rows += [(key, value_at(one, key), value_at(other, key)) for key in keys]
    return "\n".join([grid(rows, f"{len(keys)} keys differ"), *notes])


def dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys in dotted form."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return found


def value_at(values: dict[str, Any], key: str) -> str:
    """A value as one would type it; - where a config has no such key."""
    return flow(values[key]) if key in values else "-"
