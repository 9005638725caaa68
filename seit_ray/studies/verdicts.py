"""Where tokens win and where they do not, in words: each arm of tokens against the best rival of no more bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seit_ray.progress import size_words
from seit_ray.studies.lines import Line, percent

SURE = 2.0  # standard errors of a difference


@dataclass(frozen=True)
class Verdict:
    """What is said of an arm of tokens. outcome: "wins", "loses", "draws", or "alone" where no rival is so small."""

    tokens: Line
    rival: Line | None
    outcome: str
    words: str


def verdicts(lines: Sequence[Line], *, room: float = 1.0) -> list[Verdict]:
    """Of every line of tokens, by bytes; rivals may take `room` times as many. Lines that failed are left out."""
    good = [line for line in lines if line.mean is not None and line.figures.get("bytes")]
    rivals = [line for line in good if not is_tokens(line)]
    ours = sorted((line for line in good if is_tokens(line)), key=size_of)
    return [verdict(line, rivals, room) for line in ours]


def verdict(line: Line, rivals: Sequence[Line], room: float) -> Verdict:
    """Of one of them."""
    fitting = [rival for rival in rivals if size_of(rival) <= room * size_of(line)]
    name = f"{label(line)} ({size_words(size_of(line))}, {percent(line.mean)} %)"
    if not fitting:
        least = min(rivals, key=size_of, default=None)
        more = f"; the smallest, {label(least)}, takes {size_words(size_of(least))}" if least else ""
        return Verdict(line, None, "alone", f"{name}: no rival is so small{more}")
    best = max(fitting, key=lambda rival: rival.mean or 0.0)
    difference = (line.mean or 0.0) - (best.mean or 0.0)
    error = math.hypot(error_of(line), error_of(best))
    outcome = "draws" if abs(difference) <= SURE * error else "wins" if difference > 0 else "loses"
    said = {
        "wins": "tokens win by",
        "loses": "tokens lose by",
        "draws": "no difference that the errors let through:",
    }[outcome]
    shown = abs(difference) if outcome != "draws" else difference
    rival = f"{label(best)} ({size_words(size_of(best))}, {percent(best.mean)} %)"
    return Verdict(line, best, outcome, f"{name}: {said} {percent(shown)} +- {percent(error)} points against {rival}")


def is_tokens(line: Line) -> bool:
    """Whether an arm stores tokens."""
    return "tokens" in str(line.settings["arm"])


def size_of(line: Line) -> float:
    """Bytes."""
    return line.figures["bytes"]


def error_of(line: Line) -> float:
    """The larger one of the errors over seeds and of the test split."""
    return max(line.seeds_error or 0.0, line.test_error() or 0.0)


def label(line: Line | None) -> str:
    """An arm, its setting, and what is held equal where that says something."""
    if line is None:
        return "-"
    equal = line.settings.get("equal")
    return f"{line.settings['arm']}, {line.settings['setting']}" + (
        f", equal {equal}" if equal in ("steps", "epochs") else ""
    )
