"""Between the settings of a trial and what a searcher proposes: places in lists, numbers of steps."""

from __future__ import annotations

import math
from typing import Any

from seit_ray.studies.trials import Settings

Ranges = dict[str, tuple[str, tuple[Any, ...]]]  # key -> (kind, values), as in `config.space`


def num_steps(low: float, high: float, step: float) -> int:
    """Steps from low that stay within high."""
    return math.floor((high - low) / step + 1e-9)


def settings_from(proposal: dict[str, Any], ranges: Ranges) -> Settings:
    """The values that a proposal stands for."""
    settings = {}
    for key, (kind, values) in ranges.items():
        value = proposal[key]
        if kind == "choice":
            value = values[value]
        elif kind == "quniform":
            value = values[0] + value * values[2]
            value = float(f"{value:.12g}") if isinstance(value, float) else value
        settings[key] = value
    return settings


def proposal_from(settings: Settings, ranges: Ranges) -> dict[str, Any] | None:
    """The proposal that gives these settings; None where the space has no such one."""
    if set(settings) != set(ranges):
        return None
    proposal: dict[str, Any] = {}
    for key, (kind, values) in ranges.items():
        value = settings[key]
        if kind == "choice":
            if value not in values:
                return None
            proposal[key] = values.index(value)
        elif not isinstance(value, int | float) or not values[0] <= value <= values[1]:
            return None
        else:
            proposal[key] = round((value - values[0]) / values[2]) if kind == "quniform" else value
    return proposal if settings_from(proposal, ranges) == settings else None
