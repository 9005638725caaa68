"""What one cloud's storage must answer so that `Objects` makes a store of it, and what its answers hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from seit_ray.storage.entry import Entry

Span = tuple[int, int]  # first byte, and the one behind the last


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an object without reading it; version: its ETag, or generation."""

    size_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a listing: objects, folders (with a slash at their end), and where it goes on (None: it ends)."""

    objects: Sequence[Entry]
    folders: list[str]
    token: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A request for bytes that was answered, the body not read yet.

    size_bytes: of the whole object. fits: whether its checksum is that of these bytes. doubt: whether a checksum that
    never fits may be something else than one; it is not taken for one from then on.
    """

    version: str
    size_bytes: int
    read: Callable[[], Awaitable[bytes]]
    close: Callable[[], None]
    fits: Callable[[bytes], bool]
    doubt: Callable[[], bool]


class Service(Protocol):
    """Single requests, each repeated while the trouble may pass; errors are the library's: `errors` explains them.

    scheme: of the uris. loop: where `get` runs. connections: at most so many at once. is_exclusive: whether `put_new`
    lets one of several writers pass on every server that speaks this protocol. is_sorted: whether every listing comes
    by the bytes of the keys.
    """

    scheme: str
    loop: asyncio.AbstractEventLoop
    connections: int
    is_exclusive: bool
    is_sorted: bool

    def split(self, path: str) -> tuple[str, str]:
        """(bucket, key) of a path."""

    def page(
        self,
        bucket: str,
        base: str,
        *,
        prefix: str = "",
        after: str = "",
        token: str | None = None,
        delimiter: str = "",
        limit: int | None = None,
    ) -> Page:
        """Objects whose keys begin with base + prefix, behind base + after; all names without base."""

    def head(self, bucket: str, key: str) -> Head | None:
        """None where there is no such object."""

    async def get(self, bucket: str, key: str, span: Span | None = None) -> Answer:
        """The object, or some bytes of it."""

    def put(self, bucket: str, key: str, data: bytes) -> bool | None:
        """Writes or replaces an object in one step; whether the answer's checksum fits; None: it says nothing."""

    def put_new(self, bucket: str, key: str, data: bytes) -> bool:
        """Writes an object on condition that there is none; False when it is refused for there is one."""

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Removes objects, those that are there."""


class RefusedError(Exception):
    """A status of HTTP that says no, with the code that tells why; in the form of botocore's errors."""

    def __init__(self, status: int, code: str, text: str = ""):
        super().__init__(f"HTTP {status} {code} {' '.join(text.split())[:300]}".strip())
        self.status, self.code = status, code
        self.response: dict[str, Any] = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
