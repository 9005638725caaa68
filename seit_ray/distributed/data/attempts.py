"""Notes on parts that were begun: what was begun before and is begun again has ended a process, or lost its node."""

from __future__ import annotations

from seit_ray.storage import Folder, StorageError

MAX_ATTEMPTS = 5


class Attempts:
    """The notes in a folder: `<split>/<part>.<attempt>`, written before an attempt and removed behind it."""

    def __init__(self, folder: Folder):
        self.folder = folder

    def earlier(self, split: str, index: int) -> int:
        """How often a part was begun, and not finished."""
        return sum(1 for _ in self.folder.list(f"{split}/{index:06d}."))

    def begin(self, split: str, index: int, earlier: int) -> None:
        """Note that a part is begun, which was so often before."""
        self.folder.write(f"{split}/{index:06d}.{earlier}", b"begun")

    def end(self, split: str, index: int, earlier: int) -> None:
        """Remove the notes of a part that is finished."""
        for attempt in range(earlier + 1):
            self.folder.delete(f"{split}/{index:06d}.{attempt}")


def check_attempts(split: str, index: int, earlier: int) -> None:
    """StorageError, to be tried again, for a part that was begun too often."""
    if earlier >= MAX_ATTEMPTS:
        raise StorageError(
            f"part {index} of split {split!r} has lost its process or its node {earlier} times; expected nodes that "
            "stay; see the logs of the workers, and run again, which does only what is missing",
            "unavailable",
        )
