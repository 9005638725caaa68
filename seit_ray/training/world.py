"""Where a training process stands among its peers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# What torch calls the sending round of buffers in each forward; the older name is deprecated where there is the newer.
KNOWN = inspect.signature(DistributedDataParallel.__init__).parameters
NO_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in KNOWN else "broadcast_buffers"
BUCKET_MIB = 100  # gradients that are averaged at a time: fewer, larger collectives than torch's 25


@dataclass(frozen=True)
class World:
    """rank, size and device; a lone process by default."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def distributed(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are averaged over all processes; the model itself where there is one."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        without_buffers: dict[str, Any] = {NO_BUFFERS: False}
        # Buffers are equal on all ranks by construction: who changes its own adds them up over the ranks itself.
        return DistributedDataParallel(
            model,
            device_ids=ids,
            gradient_as_bucket_view=True,
            bucket_cap_mb=BUCKET_MIB,
            **without_buffers,
        )

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in the order of ranks, on all of them; small plain values, not tensors."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values
