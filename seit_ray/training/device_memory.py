"""What of a device's memory a process may take, how much it has taken, and how running out of it shows."""

from __future__ import annotations

import math

import torch

USED_SHARE = 0.85  # of what this process may have, by what is taken to fit: the rest is lost between tensors
SIGNS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says so: torch's own, or that of a library which has asked the device itself."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def keep_to_share(device: torch.device, share: float) -> None:
    """Have this process take no more than its share, 0 to 1, of a GPU; all of it where it has one or more.

    Neighbours that start at once all see the same memory free.
    """
    if device.type == "cuda" and 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


class DeviceMemory:
    """That of one device, in bytes; of a CPU nothing is known, and all of it may be taken."""

    def __init__(self, device: torch.device):
        self.device = device if device.type == "cuda" else None

    def budget(self) -> float:
        """What this process's tensors may take: of what is free or its own already, so that neighbours keep theirs.

        No more than `torch.cuda.set_per_process_memory_fraction` leaves it.
        """
        if self.device is None:
            return math.inf
        free, total = torch.cuda.mem_get_info(self.device)
        share = torch.cuda.get_per_process_memory_fraction(self.device)
        return USED_SHARE * min(free + torch.cuda.memory_reserved(self.device), share * total)

    def watch(self) -> float:
        """Begin to look for the most that is taken; what is taken now."""
        if self.device is None:
            return 0.0
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def most(self) -> float:
        """The most since `watch`."""
        return 0.0 if self.device is None else torch.cuda.max_memory_allocated(self.device)

    def let_go(self) -> None:
        """Give back what is not in use: pieces of the sizes of before are in the way of others."""
        if self.device is not None:
            torch.cuda.empty_cache()
