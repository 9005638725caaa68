"""Recordings of published implementations: those of tests/golden, or of the folder that SEIT_RAY_GOLDEN names.

A file there may be whole where ours holds what tests compare: of an array under the name KEY@N, flattened, every Nth
value; pictures as bytes, which the whole files divide by 255.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(os.environ.get("SEIT_RAY_GOLDEN") or Path(__file__).parent / "golden")


class Recording:
    """Tensors of one file by their keys."""

    def __init__(self, name: str):
        self.arrays = np.load(FOLDER / f"{name}.npz")

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key])

    def __contains__(self, key: str) -> bool:
        return key in self.arrays.files

    def keys(self, *prefixes: str) -> Iterator[str]:
        """The keys that begin so."""
        return (key for key in self.arrays.files if key.startswith(prefixes))

    def state(self, ignore: tuple[str, ...] = ("relative_position_index",)) -> dict[str, torch.Tensor]:
        """The state dict, without buffers that say nothing."""
        return {key[3:]: self[key] for key in self.keys("sd/") if not key.endswith(ignore)}

    def pixels(self, key: str) -> torch.Tensor:
        """Pictures float64 in [0,1]."""
        found = self[key]
        return found.double() / 255 if found.dtype == torch.uint8 else found.double()

    def found(self, key: str, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(what was recorded, a tensor at the same places), float64."""
        if key in self:
            return self[key].double(), value.double()
        [name] = self.keys(f"{key}@")
        return self[name].double(), value.flatten()[:: int(name.rpartition("@")[2])].double()

    def error(self, key: str, value: torch.Tensor) -> float:
        """How far a tensor is from what was recorded."""
        expected, found = self.found(key, value)
        return (found - expected).abs().max().item()

    def same(self, key: str, value: torch.Tensor, **tolerance: Any) -> None:
        """Assert that a tensor is what was recorded, or at every Nth place of it."""
        expected, found = self.found(key, value)
        torch.testing.assert_close(found, expected, **tolerance)
