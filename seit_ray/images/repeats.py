"""Keys that come again: found by their hashes, in buckets that fit into memory, and numbered in the source's order.

Eight bytes a key are put into buckets by their value, beyond some million on the local disk, and each bucket is sorted
for itself. So the memory is that of one bucket and of the keys that do come again, however long the listing.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from seit_ray.storage.errors import explained

IN_MEMORY = 4 << 20  # hashes, 32 MiB, that need no disk
BUCKETS = 256
NUMBERED = r"#\d+$"  # as a repeat is called
_NUMBERED = re.compile(NUMBERED)


def hash_of(key: str) -> int:
    """64 bits of a key."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())


def is_repeat_of(key: str, holds: Callable[[int], bool]) -> bool:
    """Whether a key looks like the repeat of a key, or of its repeat, whose hash `holds` knows."""
    while (match := _NUMBERED.search(key)) is not None:
        key = key[: match.start()]
        if holds(hash_of(key)):
            return True
    return False


def repeated(hashes: Iterable[np.ndarray], number: int) -> np.ndarray:
    """uint64, ascending: those that come more than once among `number` hashes, uint64 [N] some at a time."""
    if number <= IN_MEMORY:
        return _repeated(np.concatenate([np.empty(0, np.uint64), *hashes]))
    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        files = [Path(name, f"{bucket}") for bucket in range(BUCKETS)]
        shift = np.uint64(64 - (BUCKETS - 1).bit_length())
        for some in hashes:
            ordered = np.sort(some)
            ends = np.searchsorted(ordered >> shift, np.arange(BUCKETS + 1, dtype=np.uint64))
            for file, start, end in zip(files, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
                if end > start:
                    with explained(str(file)), file.open("ab") as out:  # the disk may be full
                        ordered[start:end].tofile(out)
        return np.concatenate([_repeated(np.fromfile(file, np.uint64)) for file in files if file.exists()])


def _repeated(hashes: np.ndarray) -> np.ndarray:
    ordered = np.sort(hashes)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


class Repeats:
    """Makes keys unique: the second image of a key gets '#2', and so on, in the order in which they come.

    Is given only those which `repeated` knows or that look like repeats of these, and remembers them.
    """

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}

    def unique(self, keys: Sequence[str]) -> list[str]:
        """The keys, each as it is or with its number."""
        return [self._unique(key) for key in keys]

    def _unique(self, key: str) -> str:
        found, number = key, self.numbers.get(key, 1)
        while found in self.taken:  # an image may be called so
            number += 1
            found = f"{key}#{number}"
        self.taken.add(found)
        self.numbers[key] = number
        return found
