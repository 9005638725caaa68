"""Mean IoU, mean accuracy, pixel accuracy and IoU of each class, counted at the label maps' own size.

N images, C classes, H x W pixels of a map, h x w cells of a grid: tokens, or pixels where a model reads these.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.evaluation.pairs import Pairs
from seit_ray.images.label_maps import VOID
from seit_ray.training.world import World

__all__ = ["SegmentCounts", "WindowedSegmenter", "figures_of", "metrics_of", "segment_counts"]


def window_starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: `stride` apart, the last at the end."""
    return sorted({*range(0, side - window, stride), side - window})


class WindowedSegmenter:
    """Inputs of `grid` -> logits, by windows of the model's own grid, `stride` cells apart, whose logits are averaged.

    By default as published (341 of 512): two thirds of a window. A grid that is smaller than the window, or a stride
    that leaves cells out, is a ValueError. Source: the sliding window of CCViT's segmentation.
    """

    def __init__(self, model: nn.Module, grid: tuple[int, int], stride: int | None = None) -> None:
        self.model, self.grid = model, (grid[0], grid[1])
        window: Any = model.grid
        self.window = (int(window[0]), int(window[1]))
        self.stride = stride or max(1, 2 * min(self.window) // 3)
        if any(w > g for w, g in zip(self.window, self.grid, strict=True)) or self.stride > min(self.window):
            raise ValueError(
                f"windows of {self.window[0]}x{self.window[1]} cells, {self.stride} apart, on {grid[0]}x{grid[1]}; "
                "expected windows within it that leave nothing out; lower segment.stride"
            )

    @torch.inference_mode()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Tokens [B,L] of the grid, or images [B,3,h,w], on the model's device -> logits float32 [B,C,h',w']."""
        if self.window == self.grid:
            return self.model(inputs)[0].float()
        maps = inputs.unflatten(1, self.grid) if inputs.ndim == 2 else inputs
        total: Tensor | None = None
        seen = torch.zeros(1, 1, *self.grid, device=inputs.device)
        scale = 1
        for top, left in itertools.product(
            *(window_starts(g, w, self.stride) for g, w in zip(self.grid, self.window, strict=True))
        ):
            part = maps[..., top : top + self.window[0], left : left + self.window[1]]
            logits = self.model(part.flatten(1) if inputs.ndim == 2 else part)[0].float()
            if total is None:  # whole points a cell, so that windows lie on each other
                scale = max(1, round(logits.shape[2] / self.window[0]))
                total = logits.new_zeros(*logits.shape[:2], *(side * scale for side in self.grid))
            size = (self.window[0] * scale, self.window[1] * scale)
            if tuple(logits.shape[2:]) != size:
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            total[..., top * scale : top * scale + size[0], left * scale : left * scale + size[1]] += logits
            seen[..., top : top + self.window[0], left : left + self.window[1]] += 1
        assert total is not None  # there is a window
        return total / seen.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def labels_at(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The likeliest class of each pixel int64 [H,W], of logits [C,h,w] of one image, at another size."""
    return F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0].argmax(0)


class SegmentCounts:
    """Pixels by image and class, on a device: images int64 [N,3,C] (right, true, told); confusion int64 [C,C].

    confusion: of a true class (row) that are told as a class (column). Void is not counted.
    """

    def __init__(self, num_images: int, num_classes: int, device: torch.device):
        self.images = torch.zeros(num_images, 3, num_classes, dtype=torch.int64, device=device)
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def add(self, row: int, truth: Tensor, told: Tensor) -> None:
        """Count one image: truth uint8 [H,W] with VOID, told int64 [H,W]."""
        num = len(self.confusion)
        truth = truth.long()
        cells = torch.where(truth == VOID, num * num, truth * num + told).flatten()
        found = torch.zeros(num * num + 1, dtype=torch.int64, device=cells.device)
        found = found.scatter_add_(0, cells, torch.ones_like(cells))[:-1].view(num, num)
        self.confusion += found
        self.images[row] = torch.stack([found.diagonal(), found.sum(1), found.sum(0)])

    def sum(self, world: World) -> SegmentCounts:
        """Those of all ranks."""
        self.images, self.confusion = world.sum(self.images), world.sum(self.confusion)
        return self


@torch.inference_mode()
def segment_counts(
    segmenter: WindowedSegmenter, pairs: Pairs, num_classes: int, world: World, batch_size: int
) -> SegmentCounts:
    """The counts of a split, over all ranks."""
    counts = SegmentCounts(len(pairs), num_classes, world.device)
    segmenter.model.eval()
    for batch in pairs.batches(batch_size, world):
        if not len(batch.rows):
            continue
        logits = segmenter(batch.inputs.to(world.device))
        for row, one, truth in zip(batch.rows.tolist(), logits, batch.maps, strict=True):
            counts.add(row, torch.from_numpy(truth.copy()).to(world.device), labels_at(one, truth.shape))
    return counts.sum(world)


def metrics_of(right: np.ndarray, true: np.ndarray, told: np.ndarray) -> dict[str, np.ndarray]:
    """miou, mean_accuracy, pixel_accuracy [...] of pixels [...,C]; classes that are nowhere do not count."""
    union = true + told - right
    with np.errstate(invalid="ignore"):
        iou = np.where(union > 0, right / np.maximum(union, 1), np.nan)
        accuracy = np.where(true > 0, right / np.maximum(true, 1), np.nan)
        return {
            "miou": mean_of_known(iou),
            "mean_accuracy": mean_of_known(accuracy),
            "pixel_accuracy": right.sum(-1) / np.maximum(true.sum(-1), 1),
        }


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; 0 where nothing is known."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(-1) / np.maximum(known.sum(-1), 1)


def figures_of(counts: SegmentCounts, class_names: list[str]) -> dict[str, Any]:
    """samples, miou, mean_accuracy, pixel_accuracy with standard errors over images (jackknife), and `classes`.

    Of one image there is no standard error: None.
    A class has iou and accuracy (None where it is nowhere), pixels of the truth, and what it is most taken for.
    """
    images = counts.images.cpu().numpy().astype(np.float64)
    images = images[images[:, 1].sum(1) > 0]  # those with pixels that count
    total, num = images.sum(0), len(images)
    found = {name: float(value) for name, value in metrics_of(*total).items()}
    without = metrics_of(*(total - images).transpose(1, 0, 2))
    errors = {
        f"{name}_standard_error": math.sqrt((num - 1) / num * float(((values - values.mean()) ** 2).sum()))
        if num > 1
        else None
        for name, values in without.items()
    }
    confusion = counts.confusion.cpu().numpy()
    classes = {name: class_figures(number, total, confusion, class_names) for number, name in enumerate(class_names)}
    return {"samples": num, **found, **errors, "classes": classes}


def class_figures(number: int, total: np.ndarray, confusion: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """iou, accuracy, pixels and most_taken_for of one class."""
    right, true, told = (int(value) for value in total[:, number])
    union = true + told - right
    others = confusion[number].copy()
    others[number] = 0
    return {
        "iou": right / union if union else None,
        "accuracy": right / true if true else None,
        "pixels": true,
        "most_taken_for": class_names[int(others.argmax())] if others.any() else None,
    }
