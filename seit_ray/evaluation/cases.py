"""The cases of a robustness table: a corruption at a severity, or a share of the units. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seit_ray.augment.mask_counts import num_units_at
from seit_ray.models.about import encoder_of, reading
from seit_ray.models.starts import patches_of

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


def check_units(cases: Sequence[Case], num_patches: int) -> None:
    """ValueError for a case that leaves none of a model's units, or that moves fewer than two."""
    for case in cases:
        num = num_units_at(case.severity, num_patches)
        if (case.corruption == "occlusion" and num == num_patches) or (case.corruption == "shuffle" and num < 2):
            raise ValueError(
                f"{case.corruption} {case.severity} of {num_patches} units; expected one to be left, and two to "
                "change places; choose another share"
            )


def check_run_units(cases: Sequence[Case], about: dict[str, Any], uri: str) -> None:
    """`check_units` of a finished run with this model.json; ValueError for one of BEiT."""
    if encoder_of(about) == "beit":  # whose positions are biases between all pairs of a whole grid
        raise ValueError(f"occlusion or shuffle of {uri}, whose encoder is BEiT; expected one of ViT; drop them")
    with reading(uri):
        height, width = patches_of(about["settings"])[1]
    check_units(cases, height * width)
