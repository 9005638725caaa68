"""The outcomes of a study's trials as lines of a table: a mean over seeds, with its standard error and their number."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seit_ray.studies.study import SEED
from seit_ray.studies.trials import Outcome


@dataclass(frozen=True)
class Line:
    """What was measured under the same settings but for the seed.

    values: the metric of each seed that finished, a share; figures: means of all other numbers; failed: errors.
    """

    settings: Mapping[str, Any]
    values: tuple[float, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    @property
    def mean(self) -> float | None:
        """Over the seeds; None where none finished."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def seeds_error(self) -> float | None:
        """Standard error of the mean over seeds; None of less than two."""
        return statistics.stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else None

    def test_error(self, size: str = "test_images") -> float | None:
        """Standard error of a share that was counted on so many samples, whatever the seeds; None where not known."""
        num = self.figures.get(size)
        if self.mean is None or not num:
            return None
        return math.sqrt(max(self.mean * (1 - self.mean), 0.0) / num)


def lines_of(outcomes: Sequence[Outcome], metric: str) -> list[Line]:
    """A line for all trials that differ in the seed alone, in order; trials without a seed measure nothing."""
    groups: dict[tuple[tuple[str, Any], ...], list[Outcome]] = {}
    for outcome in outcomes:
        if SEED in outcome.settings:
            key = tuple((name, value) for name, value in outcome.settings.items() if name != SEED)
            groups.setdefault(key, []).append(outcome)
    return [line_of(dict(key), group, metric) for key, group in groups.items()]


def line_of(settings: dict[str, Any], group: Sequence[Outcome], metric: str) -> Line:
    """One of them."""
    good = [outcome.figures for outcome in group if outcome.status == "finished" and outcome.figures is not None]
    names = dict.fromkeys(name for figures in good for name in figures if name != metric)
    means: dict[str, float] = {}
    for name in names:
        numbers = [float(figures[name]) for figures in good if is_number(figures.get(name))]
        if numbers:
            means[name] = statistics.fmean(numbers)
    failed = tuple(outcome.error or outcome.status for outcome in group if outcome.status != "finished")
    return Line(settings, tuple(float(figures[metric]) for figures in good), means, failed)


def is_number(value: Any) -> bool:
    """Whether it can be averaged."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a table of percentages has it; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def with_error(line: Line) -> str:
    """'71.3 +- 0.4': the mean and its standard error over seeds, in percent; without the error where one seed ran."""
    if line.mean is None:
        return "failed"
    error = line.seeds_error
    return percent(line.mean) + (f" +- {percent(error)}" if error is not None else "")


def table_csv(lines: Sequence[Line], metric: str, figures: Sequence[str]) -> str:
    """A line a setting: mean, standard errors, number of seeds, and the named figures."""
    keys = list(dict.fromkeys(key for line in lines for key in line.settings))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*keys, metric, "standard_error_seeds", "standard_error_test", "seeds", *figures, "failed"])
    for line in lines:
        numbers = [line.mean, line.seeds_error, line.test_error()]
        cells = ["" if number is None else f"{number:.6g}" for number in numbers]
        more = ["" if (value := line.figures.get(name)) is None else f"{value:.10g}" for name in figures]
        settings = [line.settings.get(key, "") for key in keys]
        writer.writerow([*settings, *cells, len(line.values), *more, "; ".join(line.failed)])
    return file.getvalue()


def trials_csv(outcomes: Sequence[Outcome]) -> str:
    """A line a trial, with all that it measured; those that made something for others too."""
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.settings))
    names = list(dict.fromkeys(n for o in outcomes for n, v in (o.figures or {}).items() if is_number(v)))
    names = [name for name in names if name not in keys]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", "status", "seconds", *keys, *names, "error"])
    for o in outcomes:
        seconds = "" if o.seconds is None else round(o.seconds, 1)
        settings = [o.settings.get(key, "") for key in keys]
        figures = [(o.figures or {}).get(name, "") for name in names]
        writer.writerow([o.name, o.status, seconds, *settings, *figures, o.error or ""])
    return file.getvalue()
