"""A search space: where the values of each key come from, and the trials that a grid or a random search makes of it."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = {
    "choice": "[a, b, ...]",
    "grid": "[a, b, ...]",
    "uniform": "[low, high]",
    "loguniform": "[low, high]",
    "quniform": "[low, high, step]",
}
Settings = dict[str, Any]
MOST_EDGES = 64  # settings that stand for a space whose trials are proposed on the way
DRAWS_A_TRIAL = 50  # so often a random search looks for settings that it has not drawn yet


@dataclass(frozen=True)
class Range:
    """The values of one key; `values` as in KINDS."""

    kind: str
    values: tuple[Any, ...]

    @property
    def is_listed(self) -> bool:
        """Whether it has a finite number of values."""
        return self.kind in ("choice", "grid", "quniform")

    def listed(self) -> list[Any]:
        """All values of a listed range, in order."""
        if self.kind != "quniform":
            return list(self.values)
        low, high, step = self.values
        return [_rounded(low + i * step) for i in range(math.floor((high - low) / step + 1e-9) + 1)]

    def edges(self) -> list[Any]:
        """Values that stand for all: those of a list; the ends of an interval and one between, which is not whole."""
        if self.is_listed:
            return self.listed()
        low, high = self.values
        return [low, low + 0.382 * (high - low), high]

    def draw(self, source: random.Random) -> Any:
        """One value."""
        if self.is_listed:
            return source.choice(self.listed())
        low, high = self.values
        if self.kind == "uniform":
            return low + (high - low) * source.random()
        return math.exp(math.log(low) + (math.log(high) - math.log(low)) * source.random())

    def __str__(self) -> str:
        return f"{self.kind} {', '.join(map(str, self.values))}"


def parse_space(space: dict[str, Any]) -> dict[str, Range]:
    """Dotted keys -> ranges, from a mapping with dotted or nested keys; a bare list is a choice.

    ValueError for a range that is none.
    """
    if not space:
        raise ValueError("space is empty; expected a key to search at least; write space: {optimizer.lr: [1e-3, 3e-3]}")
    ranges: dict[str, Range] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value and not set(value) & set(KINDS):
            for name, inner in value.items():
                visit(f"{prefix}.{name}" if prefix else str(name), inner)
        else:
            ranges[prefix] = parse_range(prefix, value)

    visit("", space)
    return ranges


def parse_range(key: str, value: Any) -> Range:
    """The range of a key: a list, or a mapping of one kind to its values."""
    if isinstance(value, list):
        value = {"choice": value}
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in KINDS:
        kinds = ", ".join(f"{{{kind}: {text}}}" for kind, text in KINDS.items())
        raise ValueError(f"space.{key} is {value!r}; expected a list, or one of {kinds}; correct it")
    kind, values = next(iter(value.items()))
    expected = f"expected {{{kind}: {KINDS[kind]}}}"
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"space.{key} has {kind} {values!r}; {expected}; correct it")
    if kind in ("choice", "grid"):
        values = [_number_in(v) for v in values]
        return Range(kind, tuple(v for i, v in enumerate(values) if v not in values[:i]))
    numbers = _numbers(values)
    if len(numbers) != KINDS[kind].count(",") + 1 or not numbers[0] < numbers[1]:
        raise ValueError(f"space.{key} has {kind} {values!r}; {expected}, low below high; correct it")
    if (kind == "loguniform" and numbers[0] <= 0) or (kind == "quniform" and numbers[2] <= 0):
        what = "low" if kind == "loguniform" else "step"
        raise ValueError(f"space.{key} has {kind} {values!r}; expected a {what} above 0; correct it")
    return Range(kind, numbers)


def edges_of(ranges: dict[str, Range]) -> list[Settings]:
    """Settings of all keys, at the edges of a space: all combinations where these are few, else seeded draws of them.

    Every edge is in one of them; always of all keys, since keys bound each other.
    """
    each = {key: found.edges() for key, found in ranges.items()}
    if math.prod(map(len, each.values())) <= MOST_EDGES:
        return [dict(zip(each, values, strict=True)) for values in itertools.product(*each.values())]
    count = max(MOST_EDGES, *map(len, each.values()))
    drawn = {key: _shuffled(key, edges, count) for key, edges in each.items()}
    return [{key: edges[i] for key, edges in drawn.items()} for i in range(count)]


def refuse_edges(ranges: dict[str, Range], check: Callable[[Settings], object]) -> None:
    """The ValueError of a check of settings, for a value at an edge that it refuses whatever the other keys are."""
    refused: dict[tuple[str, str], ValueError] = {}
    passed: set[tuple[str, str]] = set()
    for settings in edges_of(ranges):
        values = [(key, repr(value)) for key, value in settings.items()]
        try:
            check(settings)
            passed.update(values)
        except ValueError as error:
            refused |= {value: error for value in values if value not in refused}
    for value, told in refused.items():
        if value not in passed:
            raise told


def list_trials(ranges: dict[str, Range], searcher: str, num_trials: int, seed: int) -> list[Settings]:
    """The distinct settings of a grid or random search: a pure function of its arguments.

    grid: all combinations, the last key fastest. random: `num_trials` draws, for each combination of the keys with a
    grid; with more of them the first ones stay the same. ValueError for a grid over an interval.
    """
    crossed = {key: found for key, found in ranges.items() if found.kind == "grid" or searcher == "grid"}
    for key, found in crossed.items():
        if not found.is_listed:
            raise ValueError(
                f"space.{key} is {found.kind} with search.searcher grid; expected choice, grid or quniform; list its "
                "values, or search at random"
            )
    drawn = {key: found for key, found in ranges.items() if key not in crossed}
    trials = []
    for number, values in enumerate(itertools.product(*(found.listed() for found in crossed.values()))):
        fixed = dict(zip(crossed, values, strict=True))
        for settings in _draws(drawn, num_trials, f"{seed}/{number}") if drawn else [{}]:
            both = fixed | settings
            trials.append({key: both[key] for key in ranges})
    return trials


def _draws(ranges: dict[str, Range], count: int, seed: str) -> list[Settings]:
    """At most `count` distinct draws; fewer where the values do not give more."""
    found: list[Settings] = []
    possible = (
        math.prod(len(r.listed()) for r in ranges.values()) if all(r.is_listed for r in ranges.values()) else None
    )
    wanted = count if possible is None else min(count, possible)
    for i in range(DRAWS_A_TRIAL * count):
        # a generator for each key, so that one more key in the space does not change the others
        settings = {key: r.draw(random.Random(f"{seed}/{i}/{key}")) for key, r in ranges.items()}
        if settings not in found:
            found.append(settings)
        if len(found) == wanted:
            break
    return found


def _shuffled(key: str, values: list[Any], count: int) -> list[Any]:
    """So many of some values: all of them in an order of the key's own, and again in others."""
    found: list[Any] = []
    while len(found) < count:
        found += random.Random(f"{key}/{len(found)}").sample(values, len(values))
    return found[:count]


def _number_in(value: Any) -> Any:
    """A number for a text that YAML did not take for one: 1e-3."""
    if isinstance(value, list):
        return [_number_in(v) for v in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+\.?\d*[eE][-+]?\d+", value):
        return float(value)
    return value


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    """As finite numbers, whole ones as int; () when one is none."""
    try:
        floats = [float(v) for v in values]
    except (TypeError, ValueError):
        return ()
    if any(isinstance(v, bool) for v in values) or not all(map(math.isfinite, floats)):
        return ()
    return tuple(int(f) if isinstance(v, int) else f for v, f in zip(values, floats, strict=True))


def _rounded(value: float) -> float:
    """Without the last digits of a sum: 0.3 and not 0.30000000000000004."""
    return value if isinstance(value, int) else float(f"{value:.12g}")
