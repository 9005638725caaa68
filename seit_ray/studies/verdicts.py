"""Where tokens win and where they do not, in words: each arm of tokens against the best rival of no more bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seit_ray.progress import size_words
from seit_ray.studies.lines import Line, percent

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom; beyond them that of the normal distribution
T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09)
SURE = 2.0
ONE_SEED = "of a single seed, which does not tell how seeds differ, a difference of"
SAID = {
    "wins": "tokens win by",
    "loses": "tokens lose by",
    "draws": "no difference that the errors let through:",
}


@dataclass(frozen=True)
class Verdict:
    """What is said of an arm of tokens.

    outcome: "wins", "loses", "draws", "alone" where no rival is so small, or "open": a rival that may be better has
    failed, or a single seed was run on either side.
    """

    tokens: Line
    rival: Line | None
    outcome: str
    words: str


def verdicts(lines: Sequence[Line], *, room: float = 1.0) -> list[Verdict]:
    """Of every line of tokens that was measured, by bytes; rivals may take `room` times as many.

    A rival that failed, and is not known to take more bytes, leaves open what it may have won.
    """
    good = [line for line in lines if line.mean is not None and line.figures.get("bytes")]
    rivals = [line for line in good if not is_tokens(line)]
    lost = [line for line in lines if line.mean is None and not is_tokens(line)]
    ours = sorted((line for line in good if is_tokens(line)), key=size_of)
    return [verdict(line, rivals, lost, room) for line in ours]


def verdict(line: Line, rivals: Sequence[Line], lost: Sequence[Line], room: float) -> Verdict:
    """Of one of them."""
    fitting = [rival for rival in rivals if size_of(rival) <= room * size_of(line)]
    missing = [rival for rival in lost if rival.figures.get("bytes", 0.0) <= room * size_of(line)]
    name = f"{label(line)} ({size_words(size_of(line))}, {percent(line.mean)} %)"
    failed = f"; {', '.join(map(label, missing))} failed" if missing else ""
    if not fitting:
        least = min(rivals, key=size_of, default=None)
        more = f"; the smallest, {label(least)}, takes {size_words(size_of(least))}" if least else ""
        said = "no rival that was measured is so small" if missing else "no rival is so small"
        return Verdict(line, None, "open" if missing else "alone", f"{name}: {said}{more}{failed}")
    best = max(fitting, key=lambda rival: rival.mean or 0.0)
    difference = (line.mean or 0.0) - (best.mean or 0.0)
    error = math.hypot(error_of(line), error_of(best))
    outcome = "draws" if abs(difference) <= sure(line, best) * error else "wins" if difference > 0 else "loses"
    said, shown = SAID[outcome], difference if outcome == "draws" else abs(difference)
    if outcome != "draws" and 1 in (len(line.values), len(best.values)):
        outcome, said, shown = "open", ONE_SEED, difference
    elif outcome == "wins" and missing:
        outcome, said = "open", "tokens lead what was measured by"
    rival = f"{label(best)} ({size_words(size_of(best))}, {percent(best.mean)} %)"
    words = f"{name}: {said} {percent(shown)} +- {percent(error)} points against {rival}{failed}"
    return Verdict(line, best, outcome, words)


def sure(line: Line, other: Line) -> float:
    """Standard errors of a difference beyond which it is one, at 95 %: of Student's t, by Welch and Satterthwaite.

    The error of a share on the test images is that of many, and has no degrees of freedom to lose.
    """
    errors = [(error_of(one), one) for one in (line, other)]
    parts = [e**4 / (len(one.values) - 1) for e, one in errors if e and e == one.seeds_error]
    if not parts or not sum(parts):
        return SURE
    freedom = math.hypot(*(e for e, _ in errors)) ** 4 / sum(parts)
    return T[max(1, int(freedom)) - 1] if freedom < len(T) + 1 else SURE


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
