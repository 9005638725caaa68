"""What a store hands to an objective, on the device, and the same rows on the host before. B rows, L tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """This rank's rows of the global batch: tokens int64 [B,L] or images uint8 [B,3,H,W]; labels int64 [B] or None.

    A label of -1 is that of an unlabelled row. Where a class a pixel is learnt, labels are maps uint8 [B,H,W]. places
    int64 [B], on the host: which of the rows that were asked for these are, where some cannot be read; None for all.
    """

    inputs: Tensor
    labels: Tensor | None = None
    places: Tensor | None = None


@dataclass(frozen=True)
class HostBatch:
    """Rows on the host as they are stored: tokens as 16 bits [B,L] or images uint8 [B,3,H,W]; labels as of `Batch`."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; from pinned memory the host does not wait for the copy."""
        inputs, labels = (values.to(device, non_blocking=True) for values in (self.inputs, self.labels))
        if inputs.dtype == torch.int16:  # the bits of uint16, for which torch has few operations: drop the sign
            inputs = inputs.long().bitwise_and_(0xFFFF)
        return Batch(inputs, labels)


def gather(array: np.ndarray, rows: np.ndarray | slice, *, pinned: bool = False) -> Tensor:
    """A copy of the rows of an array, in pinned memory if asked; uint16 comes as int16, the same bits."""
    values = array.view(np.int16) if array.dtype == np.uint16 else array
    if not values.flags.writeable:  # torch wraps such arrays under protest
        taken = torch.from_numpy(values[rows].copy() if isinstance(rows, slice) else values[rows])
        return taken.pin_memory() if pinned else taken
    source = torch.from_numpy(values)
    if isinstance(rows, slice):
        taken = source[rows]
        return taken.pin_memory() if pinned else taken.clone()
    index = torch.from_numpy(np.array(rows, order="C"))  # torch takes no negative strides
    if not pinned:
        return source.index_select(0, index)
    out = torch.empty(len(rows), *source.shape[1:], dtype=source.dtype, pin_memory=True)
    return torch.index_select(source, 0, index, out=out)


def taken(rows: np.ndarray, *, pinned: bool = False) -> Tensor:
    """Rows that nobody else has as a tensor of the same memory, or in pinned memory; uint16 comes as int16."""
    found = torch.from_numpy(rows.view(np.int16) if rows.dtype == np.uint16 else rows)
    return found.pin_memory() if pinned else found
