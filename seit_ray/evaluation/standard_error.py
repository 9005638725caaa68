"""How far a figure may be from that of all images: standard errors over the images of a split."""

from __future__ import annotations

import math


def error_of(mean: float, squares: float, num: int) -> float | None:
    """Standard error of a mean of num values whose squares add up to `squares`; None where one value tells nothing."""
    return math.sqrt(max(0.0, squares / num - mean**2) / num) if num > 1 else None
