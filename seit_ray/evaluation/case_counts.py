"""What is counted of the cases of a robustness table: the same images, clean and under each corruption and severity.

K cases, the first of them clean; N images. Of the images' means over cases the squares are kept too: cases of one image
are no independent samples, so a standard error has to be that over images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seit_ray.evaluation.cases import Case


class Tally:
    """Counts of some images under all cases: every case sees the images in the same order."""

    def __init__(self, cases: Sequence[Case], num_classes: int):
        self.cases, self.num_classes = list(cases), num_classes
        self.values: list[list[Tensor]] = [[] for _ in range(1 + len(cases))]
        self.labels: list[Tensor] = []

    def add(self, place: int, logits: Tensor, labels: Tensor) -> None:
        """Logits [B,C] and labels [B] of a batch under case number `place`, 0 for clean; waits for no device."""
        logits = logits.float()
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        loss = F.cross_entropy(logits, labels, reduction="none")
        self.values[place].append(torch.stack([top[:, 0], top.any(1), loss]).double())
        if place == 0:
            self.labels.append(labels)

    def counts(self) -> dict[str, Any]:
        """Plain numbers that can be added up: see `add_up`."""
        values = torch.stack([torch.cat(parts, dim=1) if parts else torch.zeros(3, 0) for parts in self.values])
        values = values.double().cpu()  # [K,3,N]
        hits = values[:, 0]
        labels = torch.cat(self.labels).cpu() if self.labels else torch.zeros(0, dtype=torch.int64)
        classes = torch.zeros(self.num_classes, 2, dtype=torch.float64)
        classes.index_add_(0, labels, torch.stack([torch.ones_like(hits[0]), hits[0]], dim=1))
        seen = classes[:, 0].nonzero()[:, 0].tolist()
        names = [case.corruption for case in self.cases]
        groups = {name: [1 + i for i, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
        return {
            "samples": hits.shape[1],
            "cases": values.sum(dim=2).tolist(),
            "squares": {name: float((hits[rows].mean(0) ** 2).sum()) for name, rows in groups.items()},
            "mean_square": float((hits[1:].mean(0) ** 2).sum()) if self.cases else 0.0,
            "classes": {str(i): classes[i].tolist() for i in seen},
        }


def add_up(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of all parts together; in their order, so that the last digits do not depend on who made them."""
    total: dict[str, Any] = {"samples": 0, "cases": [], "squares": {}, "mean_square": 0.0, "classes": {}}
    for part in parts:
        total["samples"] += part["samples"]
        total["mean_square"] += part["mean_square"]
        before = total["cases"] or [[0.0] * 3 for _ in part["cases"]]
        total["cases"] = [
            [a + b for a, b in zip(*pair, strict=True)] for pair in zip(before, part["cases"], strict=True)
        ]
        for name, value in part["squares"].items():
            total["squares"][name] = total["squares"].get(name, 0.0) + value
        for number, counted in part["classes"].items():
            known = total["classes"].get(number, [0.0, 0.0])
            total["classes"][number] = [a + b for a, b in zip(known, counted, strict=True)]
    return total
