"""One listed object, and which names count as hidden."""

from typing import NamedTuple

Stretch = tuple[str, str | None]  # what lies behind the first name, up to the second one (None: to the end)
WHOLE: Stretch = ("", None)
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


def is_hidden(name: str, prefix: str = "") -> bool:
    """Whether a part of name starts with '.' or '_'; parts that the prefix spells out do not count."""
    spelled_out = prefix.count("/") + prefix.rpartition("/")[2].startswith((".", "_"))
    return any(part.startswith((".", "_")) for part in name.split("/")[spelled_out:])
