"""How much memory a node has for a split, and what of it those need that decode its images."""

from __future__ import annotations

import os
from pathlib import Path

from seit_ray.images.reading import CHUNK_BYTES, CHUNK_ROWS

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
MOST_READERS = 16  # of a process
READER_SHARE = 0.25  # of the memory, what readers may have on the way
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


def shared_out(memory_bytes: int, num_shards: int, row_bytes: int, num_cpus: int) -> tuple[int, int]:
    """(readers of a process with so many CPUs, bytes for what is held) of a node's memory.

    A reader has the encoded images of two chunks at a time, and leaves room for the pixels of one to those that decode
    them, who have a picture each. All readers of a node together have a share of the memory, but each process has one;
    where even these would take half of it, half is held.
    """
    processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # as Ray Train and torchrun say it
    reader_bytes = 2 * CHUNK_BYTES + min(CHUNK_BYTES, CHUNK_ROWS * row_bytes)
    most = min(MOST_READERS, num_cpus, num_shards)
    room = int(READER_SHARE * memory_bytes) // max(1, processes * reader_bytes)
    readers = max(1, min(most, room))
    return readers, max(memory_bytes - processes * readers * reader_bytes, memory_bytes // 2)
