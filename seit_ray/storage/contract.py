"""What a Folder asks of the store behind it, and the arguments that decide which store answers, and to whom."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypedDict

from seit_ray.storage.entry import WHOLE, Entries, Entry, Stretch


class Access(TypedDict):
    """The arguments of a Folder beside its uri; None: from the variables and profiles of the process.

    The first five are of S3, account is of Azure. anonymous, requester_pays (S3, Google Cloud) and connections are of
    all; private_addresses is of https:// addresses.
    """

    endpoint_url: str | None
    region: str | None
    access_key_id: str | None
    secret_access_key: str | None
    session_token: str | None
    account: str | None
    anonymous: bool
    requester_pays: bool
    connections: int
    private_addresses: bool


class Reader(Protocol):
    """What can be read, at addresses of one kind. Raises its own errors: the Folder explains."""

    def read_many(
        self, paths: Sequence[str], max_bytes: int | None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | Exception]:
        """Contents in the order of paths; an error in place of what cannot be read, or is of another version."""


class ObjectStore(Reader, Protocol):
    """Operations on paths of one kind: local ones, or 'bucket/key'."""

    def open(self, path: str, version: str | None = None) -> io.BufferedReader:
        """A seekable binary file; an error when it is of another version."""

    def write(self, path: str, data: bytes) -> None:
        """Writes or replaces an object in one step."""

    def create(self, path: str, data: bytes) -> bool:
        """Writes an object unless there is one; whether it was written."""

    def size(self, path: str) -> int | None:
        """Bytes of an object; None when there is none."""

    def version(self, path: str) -> str | None:
        """What `Entry.version` of an object would be now; None when there is none."""

    def list_folders(self, root: str) -> list[str]:
        """Names of the folders directly below root, sorted by bytes."""

    def list(
        self,
        root: str,
        prefix: str,
        include_hidden: bool,
        on_skipped: Callable[[str], None] | None = None,
        stretch: Stretch = WHOLE,
    ) -> Iterator[Entry]:
        """Objects of a stretch below root whose relative name starts with prefix, sorted by bytes; none if missing.

        on_skipped: told why, for each file that cannot be listed; without it such a file is an error.
        """

    def list_some(
        self, root: str, on_skipped: Callable[[str], None] | None = None, stretch: Stretch = WHOLE
    ) -> Iterator[Entries]:
        """The objects of a stretch below root, hidden ones too, some at a time: of a bucket page after page."""

    def cuts(self, root: str, after: str, most: int, listed: int = 0) -> Sequence[str] | None:
        """At most `most` names, ascending, that divide what lies below root and behind `after` into stretches.

        None where it cannot be listed by stretches. listed: how many objects there are up to `after`.
        """

    def delete(self, path: str) -> None:
        """Removes an object; no error when there is none."""

    def delete_tree(self, path: str) -> None:
        """Removes all below path, and path."""

    def check_readable(self, path: str) -> None:
        """Raises unless something at path can be read."""
