"""How much memory a node has for a split."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
SHARE = 0.5  # of the node's memory, where nobody says how much


def memory_budget(memory_gib: float | None) -> int:
    """Bytes for a split: what is asked for, or half of the node's memory.

    Of all memory, not of what is free: every process of a node has to come to the same number, and what the first one
    fills is no longer free for the second.
    """
    return int(memory_gib * 2**30) if memory_gib is not None else int(total_memory() * SHARE)


def total_memory() -> int:
    """Bytes of this machine, or of the container that this process is in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in CGROUP_LIMITS:
        path = Path(name)
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdigit():  # "max" is no limit
            limits.append(int(text))
    return min(limits)
