"""What a classifier knows after each step of class-incremental learning, and what it has forgotten. T steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def step_figures(hits: Sequence[float], samples: Sequence[float], steps: Sequence[range]) -> dict[str, Any]:
    """After a step: top1 over all classes seen, and of_step, that of the classes of each step so far.

    hits and samples: of each class seen, in their order; steps: places of the classes of each step so far.
    """
    of_step = [sum(hits[i] for i in step) / sum(samples[i] for i in step) for step in steps]
    return {"top1": sum(hits) / sum(samples), "of_step": of_step}


def incremental_figures(after: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """mean_top1 over the steps, last_top1, and forgetting, of what `step_figures` gave after each of them.

    Forgetting: the mean, over the steps but the last, of how far the accuracy on a step's classes has fallen at the end
    from its best before (Chaudhry et al. 2018, "Riemannian walk for incremental learning", section 3); 0 for one step.
    """
    last = after[-1]["of_step"]
    before = [row["of_step"] for row in after[:-1]]
    fallen = [max(row[j] for row in before[j:]) - last[j] for j in range(len(before))]
    return {
        "mean_top1": sum(row["top1"] for row in after) / len(after),
        "last_top1": after[-1]["top1"],
        "forgetting": sum(fallen) / len(fallen) if fallen else 0.0,
    }
