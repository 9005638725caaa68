"""Keys: what a person would call an image, each one once."""

from __future__ import annotations

import hashlib

import numpy as np

from seit_ray.images.sources.names import one_form

RECENT = 1 << 18  # keys in a set, some 25 MB, before they become eight bytes each


class Repeats:
    """Makes the keys of a source unique: the second image of a key gets '#2', and so on, in the order of the source.

    Remembers 64 bits a key: of two keys that share them one would get a needless '#2', which harms nothing.
    """

    def __init__(self) -> None:
        self.recent: set[int] = set()
        self.old: list[np.ndarray] = []  # sorted, each at least twice as long as the next
        self.numbers: dict[str, int] = {}  # of the keys that came again

    def unique(self, key: str) -> tuple[str, str | None]:
        """(key, None), or for one that was there (key with its number, the key itself)."""
        if self._is_new(key):
            return key, None
        number = self.numbers.get(key, 1) + 1
        while not self._is_new(f"{key}#{number}"):  # an image may be called so
            number += 1
        self.numbers[key] = number
        return f"{key}#{number}", key

    def _is_new(self, key: str) -> bool:
        """Whether a key was not there before; it is from now on."""
        code = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())
        if code in self.recent or any(_holds(codes, code) for codes in self.old):
            return False
        self.recent.add(code)
        if len(self.recent) == RECENT:
            self.old.append(np.sort(np.fromiter(self.recent, np.uint64, RECENT)))
            self.recent = set()
            while len(self.old) > 1 and len(self.old[-2]) < 2 * len(self.old[-1]):
                self.old[-2:] = [np.sort(np.concatenate(self.old[-2:]))]
        return True


class FileKeys:
    """The key of each file of a listing: its name in one form of Unicode, remembered only where that may repeat."""

    def __init__(self) -> None:
        self.repeats = Repeats()

    def of(self, name: str) -> tuple[str, str | None]:
        """As `Repeats.unique`."""
        return (name, None) if name.isascii() else self.repeats.unique(one_form(name))


def _holds(codes: np.ndarray, code: int) -> bool:
    place = int(np.searchsorted(codes, np.uint64(code)))
    return place < len(codes) and int(codes[place]) == code
