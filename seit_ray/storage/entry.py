"""One listed object, many of them, and which names count as hidden."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

Stretch = tuple[str, str | None]  # what lies behind the first name, up to the second one (None: to the end)
WHOLE: Stretch = ("", None)
SOME = 1000  # objects, as many as a page of a bucket has
ONE_STREAM: Stretch = ("", chr(0x10FFFF))  # the same, but no folders are listed ahead of what is read


class Entry(NamedTuple):
    """An object below a folder: name relative to it, size in bytes, time of change (ISO 8601, UTC), ETag.

    etag: of S3 and Azure, the generation of Google Cloud; '' where there is none.
    """

    name: str
    size_bytes: int
    modified: str
    etag: str = ""

    @property
    def version(self) -> str:
        """Changes when the object is overwritten: its ETag or generation, else its time of change."""
        return self.etag or self.modified


_entry = functools.partial(tuple.__new__, Entry)  # of a tuple, at once: there are many


class Entries(Sequence[Entry]):
    """Objects as columns, a list each, of which an `Entry` is made where it is asked for."""

    __slots__ = ("columns",)

    def __init__(self, names: list[str], sizes: list[int], modified: list[str], etags: list[str]):
        self.columns = (names, sizes, modified, etags)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """These ones, of which there are some."""
        return cls(*map(list, zip(*entries, strict=True)))

    @classmethod
    def some(cls, entries: Iterable[Entry]) -> Iterator[Entries]:
        """These ones, SOME at a time."""
        left = iter(entries)
        while found := list(itertools.islice(left, SOME)):
            yield cls.of(found)

    @property
    def names(self) -> list[str]:
        """Of all."""
        return self.columns[0]

    @property
    def sizes(self) -> list[int]:
        """Of all."""
        return self.columns[1]

    @property
    def versions(self) -> list[str]:
        """`Entry.version` of all."""
        _, _, modified, etags = self.columns
        return etags if all(etags) else [etag or moment for etag, moment in zip(etags, modified, strict=True)]

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[Entry]:
        return map(_entry, zip(*self.columns, strict=True))

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Entries: ...
    def __getitem__(self, place: int | slice) -> Entry | Entries:
        names, sizes, modified, etags = self.columns
        if isinstance(place, slice):
            return Entries(names[place], sizes[place], modified[place], etags[place])
        return Entry(names[place], sizes[place], modified[place], etags[place])


def is_hidden(name: str, prefix: str = "") -> bool:
    """Whether a part of name starts with '.' or '_'; parts that the prefix spells out do not count."""
    spelled_out = prefix.count("/") + prefix.rpartition("/")[2].startswith((".", "_"))
    return any(part.startswith((".", "_")) for part in name.split("/")[spelled_out:])
