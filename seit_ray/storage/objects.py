"""The operations of a Folder on 'bucket/key', of whatever service: what S3, Google Cloud and Azure have in common."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from fsspec.asyn import sync

from seit_ray.storage.bodies import ATTEMPTS, RangeReader, get_object
from seit_ray.storage.cuts import cuts
from seit_ray.storage.entry import WHOLE, Entries, Entry, Stretch, is_hidden
from seit_ray.storage.errors import DamagedError, changed
from seit_ray.storage.listing import Ask, listed, one_stream
from seit_ray.storage.service import Head, Page, Service

BUFFER_BYTES = 1 << 20
SETTLE_S = 2.0  # longer than a small PUT takes


class Objects:
    """A store of one service; raises what its library raises, which the Folder explains."""

    def __init__(self, service: Service):
        self.service = service

    def read_many(
        self, paths: Sequence[str], max_bytes: int | None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | Exception]:
        """Contents in the order of paths, `connections` at once; an error in place of what cannot be read."""
        known = versions or [None] * len(paths)

        async def read_all() -> list[bytes | BaseException]:
            slots = asyncio.Semaphore(self.service.connections)
            reads = (
                get_object(self.service, slots, *self.service.split(path), max_bytes, version)
                for path, version in zip(paths, known, strict=True)
            )
            return await asyncio.gather(*reads, return_exceptions=True)

        return sync(self.service.loop, read_all)

    def open(self, path: str, version: str | None = None) -> io.BufferedReader:
        """A seekable binary file that fetches spans of BUFFER_BYTES or more, all of one version."""
        bucket, key = self.service.split(path)
        uri, head = f"{self.service.scheme}://{path}", self._head(path)
        if head is None:
            raise FileNotFoundError(path)
        if version is not None and head.version != version:
            raise changed(uri)

        def read_span(start: int, stop: int) -> bytes:
            slots = asyncio.Semaphore(1)
            return sync(
                self.service.loop, get_object, self.service, slots, bucket, key, None, head.version, (start, stop)
            )

        return io.BufferedReader(RangeReader(read_span, head.size_bytes, uri), BUFFER_BYTES)

    def write(self, path: str, data: bytes) -> None:
        """One request, or an upload in parts; the service shows it whole or not at all.

        What the answer says was stored is compared with data, and read back where it differs.
        """
        for _ in range(ATTEMPTS):
            fits = self.service.put(*self.service.split(path), data)
            whole = self.size(path) == len(data) if fits is None else fits or self.read_many([path], None)[0] == data
            if whole:
                return
        raise DamagedError(
            f"{self.service.scheme}://{path} was stored damaged; expected what was sent; check the server"
        )

    def create(self, path: str, data: bytes) -> bool:
        """Writes the object unless there is one; whether it was written."""
        if self.size(path) is not None or not self.service.put_new(*self.service.split(path), data):
            return False
        if self.service.is_exclusive:
            return True
        # AWS lets one of two writers pass. Other servers let both, when they write at once, or know no conditions:
        # after a pause all see what was written last.
        time.sleep(SETTLE_S)
        return self.read_many([path], None)[0] == data

    def size(self, path: str) -> int | None:
        """Bytes of the object; None when there is none."""
        head = self._head(path)
        return None if head is None else head.size_bytes

    def version(self, path: str) -> str | None:
        """The ETag, or generation, of the object; None when there is none."""
        head = self._head(path)
        return None if head is None else head.version

    def list_folders(self, root: str) -> list[str]:
        """Names of the folders directly below root, sorted."""
        names = [folder[:-1] for page in self._pages(root, delimiter="/") for folder in page.folders]
        return sorted((name for name in names if name and not is_hidden(name)), key=str.encode)

    def list(
        self,
        root: str,
        prefix: str,
        include_hidden: bool,
        on_skipped: Callable[[str], None] | None = None,
        stretch: Stretch = WHOLE,
    ) -> Iterator[Entry]:
        """Objects below root whose relative key starts with prefix, in key order, some pages in memory."""
        if self.service.is_sorted and stretch == WHOLE:
            found = listed(self._ask(root), prefix)
        else:  # of a stretch one page after the other: others are listed at the same time
            found = itertools.chain.from_iterable(one_stream(self._ask(root), prefix, stretch))
        for entry in found:
            name = entry.name
            if name and not name.endswith("/") and (include_hidden or not is_hidden(name, prefix)):
                yield entry

    def list_some(
        self, root: str, on_skipped: Callable[[str], None] | None = None, stretch: Stretch = WHOLE
    ) -> Iterator[Entries]:
        """The objects of a stretch below root, those of a page at a time."""
        del on_skipped
        for page in one_stream(self._ask(root), "", stretch):
            names = page.names if isinstance(page, Entries) else [entry.name for entry in page]
            if "" in names or "/\n" in "\n".join([*names, ""]):  # folders, as consoles make them
                page = [entry for entry in page if entry.name and not entry.name.endswith("/")]
            if page:
                yield page if isinstance(page, Entries) else Entries.of(page)

    def cuts(self, root: str, after: str, most: int, listed: int = 0) -> Sequence[str] | None:
        """Names that divide what lies behind `after`; None where the service lists in an order of its own."""
        return cuts(self._ask(root), after, most, listed) if self.service.is_sorted else None

    def delete(self, path: str) -> None:
        """Removes the object, if there is one."""
        bucket, key = self.service.split(path)
        self.service.delete(bucket, [key])

    def delete_tree(self, path: str) -> None:
        """Removes all objects below path, a page at a time."""
        bucket, base = self._base(path)
        for page in self._pages(path):
            if page.objects:
                self.service.delete(bucket, [base + entry.name for entry in page.objects])

    def check_readable(self, path: str) -> None:
        """Raises unless path is an object or has some below it that can be read; a bucket may be empty."""
        bucket, key = self.service.split(path)
        # Listing first: its answer says what is wrong, that of HEAD has no body.
        below = self._ask(path)(limit=1).objects
        first = self._base(path)[1] + below[0].name if below else key
        if first and self.service.head(bucket, first) is None:
            raise FileNotFoundError(path)

    def _head(self, path: str) -> Head | None:
        return self.service.head(*self.service.split(path))

    def _base(self, path: str) -> tuple[str, str]:
        """(bucket, what the keys of all objects in the folder at path begin with)."""
        bucket, key = self.service.split(path)
        return bucket, f"{key}/" if key else ""

    def _ask(self, root: str) -> Ask:
        return functools.partial(self.service.page, *self._base(root))

    def _pages(self, root: str, delimiter: str = "") -> Iterator[Page]:
        ask, token = self._ask(root), None
        while True:
            page = ask(token=token, delimiter=delimiter)
            yield page
            if (token := page.token) is None:
                return
