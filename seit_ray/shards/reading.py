"""Many small objects of a folder, fetched some at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seit_ray.storage import Folder

READ_TOGETHER = 256  # small objects, such as records and tables of rejects


def read_all(folder: Folder, names: Sequence[str], together: int = READ_TOGETHER) -> Iterator[bytes]:
    """The bytes of objects, in order; `together` of them are held. StorageError for one that cannot be read."""
    for start in range(0, len(names), together):
        for data in folder.read_many(list(names[start : start + together])):
            if isinstance(data, Exception):
                raise data
            yield data
