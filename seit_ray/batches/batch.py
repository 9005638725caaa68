"""What a store hands to an objective, on the device. B rows, L tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """This rank's rows of the global batch: tokens int64 [B,L] or images uint8 [B,3,H,W]; labels int64 [B] or None.

    A label of -1 is that of an unlabelled row.
    """

    inputs: Tensor
    labels: Tensor | None = None


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on the device; copies to a GPU are from pinned memory and asynchronous."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
