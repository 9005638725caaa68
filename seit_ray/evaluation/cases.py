"""The cases of a robustness table: a corruption at a severity, or a share of the units. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Severity = int | float  # of a corruption 1 to 5; of removed or shuffled units their share


@dataclass(frozen=True)
class Case:
    """A corruption at a severity."""

    corruption: str
    severity: Severity


def cases_of(corruptions: Sequence[str], severities: Sequence[Severity]) -> list[Case]:
    """All severities of all corruptions."""
    return [Case(name, severity) for name in corruptions for severity in severities]


def unit_cases(occlusion: Sequence[float], shuffle: Sequence[float]) -> list[Case]:
    """The cases of shares of units, each once, ascending; ValueError for a share that is none."""
    found: list[Case] = []
    for name, shares, top in (("occlusion", occlusion, "below 1"), ("shuffle", shuffle, "at most 1")):
        wrong = [share for share in shares if not (0 < share < 1 or (share == 1 and name == "shuffle"))]
        if wrong:
            raise ValueError(f"{name} {wrong[0]}; expected shares of the units, above 0 and {top}; correct it")
        found += cases_of([name], sorted(set(shares)))
    return found
