"""Files of a source that break off, go away or cannot be read: what each still held is one record with the reason.

A storage that does not answer is another thing: it ends the listing, which is begun again later. A file is told from
it by the others: while the beginning of one comes, what stays away is at fault itself, a bad sector of a disk, say. A
table or an inventory is one file that somebody has named, and can mend.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from seit_ray.images.records import unusable
from seit_ray.images.sources.division import MAY_REPEAT, Division, File, Seen
from seit_ray.images.sources.names import one_form
from seit_ray.storage import ONE_STREAM, Folder, StorageError
from seit_ray.storage.errors import may_pass
from seit_ray.storage.patience import patiently

T = TypeVar("T")
OTHERS = 8  # files that are tried, to see whether a storage answers
FILE_PATIENCE_S = 20.0  # with one file at least, where it is on a disk: of a bucket each request is repeated as long


class BrokenFileError(ValueError):
    """A file that is not what its name says, or a broken one."""


def until_fault(found: Iterator[T], division: Division, fault: list[str]) -> Iterator[T]:
    """What comes of a file before its fault, of which the reason is added to `fault`."""
    try:
        yield from found
    except BrokenFileError as error:
        fault.append(str(error))
    except StorageError as error:
        if error.kind != "missing" and not is_of_a_file(error, division):
            raise
        fault.append(str(error))


def rest_of(file: File, division: Division, fault: list[str]) -> Iterator[Seen]:
    """The record that stands for what a file held behind its fault; none where there was none."""
    for reason in fault:
        rest = unusable(f"{reason}; this stands for all that it held beyond")
        mask = rest if division.settings.has_maps else None
        yield Seen(f"{one_form(file.name)}#rest", rest, None, file.split, 0, file.version, of_key=MAY_REPEAT, mask=mask)


def is_of_a_file(error: StorageError, division: Division) -> bool:
    """Whether what was asked for with patience stays away though the storage answers."""
    return division.patience_ended and may_pass(error) and answers(division)


def answers(division: Division) -> bool:
    """Whether the beginning of the first file of a source, or of the last, or of one beside them can be read just now.

    What lies beside them tells where the source is a single file.
    """
    files = [file.name for piece in division.pieces for file in piece.files]
    if any(begins(division.folder, name) for name in dict.fromkeys([*files[:1], *files[-1:]])):
        return True
    return others_begin(division.folder, files)


def others_begin(folder: Folder, names: Collection[str]) -> bool:
    """Whether the beginning of one of the first files of a folder, but for these, can be read just now."""
    with contextlib.suppress(StorageError):
        first = [entry.name for entry in itertools.islice(folder.list(stretch=ONE_STREAM), OTHERS)]
        return any(begins(folder, name) for name in first if name not in names)
    return False


def begins(folder: Folder, name: str) -> bool:
    """Whether the beginning of a file can be read just now."""
    with contextlib.suppress(StorageError), folder.open(name) as file:
        file.read(1)
        return True
    return False


def read_named(read: Callable[[], T], folder: Folder, name: str) -> T:
    """read(), of a table or an inventory, say; ValueError where it stays away while something else of there comes."""
    try:
        return patiently(read, FILE_PATIENCE_S)
    except StorageError as error:
        if not may_pass(error):
            raise
        if begins(folder, name):
            raise own_fault(error) from error
        if not others_begin(folder, [name]):
            raise
        raise own_fault(error, "others beside it") from error


def own_fault(error: StorageError, comes: str = "its beginning") -> StorageError:
    """An error of a storage as that of a file which somebody has named."""
    what = str(error).partition(";")[0]
    return StorageError(f"{what}, while {comes} can; expected a whole file; copy it to another place")
