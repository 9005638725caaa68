"""Metrics of the steps since the last record, added up on the device: no step waits for the host."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seit_ray.training.world import World

SKIPPED = "skipped_steps"
COUNT = "steps of "  # before the name of a metric: steps that it is the sum of


class Window:
    """Sums over steps of this rank's share of each metric; steps that were skipped count as such, and as no more.

    A metric need not be one of every step: how many steps it was in is counted beside it.
    """

    def __init__(self, world: World):
        self.world = world
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self._step: dict[str, Tensor] = {}

    def add(self, metrics: dict[str, Tensor], share: float) -> None:
        """Add a part of a step: metrics are means over a share of the global batch."""
        for name, value in metrics.items():
            _add(self._step, name, value.detach().float() * share)

    def drop_step(self) -> None:
        """Forget the parts of a step that is not whole."""
        self._step.clear()

    def end_step(self, found: Tensor) -> None:
        """The step is whole; found: 1.0 when it was skipped, 0.0 else."""
        counted = (1 - found) / self.world.size
        for name, value in self._step.items():
            _add(self.sums, name, value.where(found == 0, torch.zeros_like(value)))
            _add(self.sums, COUNT + name, counted)
        _add(self.sums, SKIPPED, found / self.world.size)
        self._step.clear()
        self.steps += 1

    def total(self) -> dict[str, Tensor]:
        """Sums over all ranks: what a checkpoint keeps of a window that is not full, beside `steps`."""
        if not self.sums:
            return {}
        names = sorted(self.sums)
        values = self.world.sum(torch.stack([self.sums[name] for name in names]))
        return dict(zip(names, values.unbind(), strict=True))

    def restore(self, total: dict[str, Tensor], steps: int) -> None:
        """Go on from a `total` of so many steps; the first rank takes all of it."""
        scale = float(self.world.is_main)
        self.sums = {name: value.to(self.world.device) * scale for name, value in total.items()}
        self.steps = steps
        for name in [name for name in self.sums if name != SKIPPED and not name.startswith(COUNT)]:
            if COUNT + name not in self.sums:  # of a version that had each metric in every step
                self.sums[COUNT + name] = steps * scale - self.sums.get(SKIPPED, torch.zeros_like(self.sums[name]))

    def flush(self) -> dict[str, float]:
        """Means over the steps and all ranks by train_<name>, and how many steps were skipped; NaN where all were."""
        total = self.total()
        sums = dict(zip(total, torch.stack(list(total.values())).tolist(), strict=True)) if total else {}
        skipped = round(sums.pop(SKIPPED, 0.0))
        counts = {name.removeprefix(COUNT): round(sums.pop(name)) for name in list(sums) if name.startswith(COUNT)}
        means = {f"train_{name}": value / counts[name] if counts[name] else math.nan for name, value in sums.items()}
        self.sums.clear()
        self.steps = 0
        return means | ({SKIPPED: skipped} if skipped else {})


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value
