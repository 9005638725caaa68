"""Label maps as pictures: a colour a class. N maps of H x W pixels, C classes."""

from __future__ import annotations

import colorsys

import numpy as np

VOID = 255
GOLDEN = 0.61803398875  # of the circle of hues: neighbouring numbers get colours far apart


def class_colours() -> np.ndarray:
    """uint8 [256,3]: a colour for each class, the same everywhere; void is dark grey."""
    hues = [(0.02 + GOLDEN * number) % 1 for number in range(256)]
    colours = [colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (i % 2), 0.95 - 0.3 * (i // 2 % 2)) for i, hue in enumerate(hues)]
    found = np.round(np.array(colours) * 255).astype(np.uint8)
    found[VOID] = 40
    return found


def paint_maps(classes: np.ndarray) -> np.ndarray:
    """uint8 [N,3,H,W] of maps uint8 [N,H,W]."""
    return np.ascontiguousarray(class_colours()[classes].transpose(0, 3, 1, 2))
