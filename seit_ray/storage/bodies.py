"""Bodies of objects: compared with their checksums, and fetched again where they break off or arrive damaged."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp

from seit_ray.storage.errors import DamagedError, changed, explain, explained, may_pass, too_large
from seit_ray.storage.service import Service, Span

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ATTEMPTS = 4
PAUSE_S = 0.4  # before the second, then twice as long each time


def is_broken(error: Exception) -> bool:
    """Whether a body broke off, stalled or arrived damaged: what the libraries do not ask for again themselves."""
    return isinstance(error, aiohttp.ClientError | asyncio.TimeoutError) or may_pass(explain(error, ""))


async def get_object(
    service: Service,
    slots: asyncio.Semaphore,
    bucket: str,
    key: str,
    max_bytes: int | None = None,
    version: str | None = None,
    span: Span | None = None,
) -> bytes:
    """The bytes of one object, or a span of them; a broken or damaged body is fetched again.

    An error unless what is there is of this version, and of at most max_bytes.
    """
    uri, misfit = f"{service.scheme}://{bucket}/{key}", None
    async with slots:
        attempts_left = ATTEMPTS
        while True:
            answer = await service.get(bucket, key, span)
            attempts_left -= 1
            try:
                if version is not None and answer.version != version:
                    raise changed(uri)
                if max_bytes is not None and answer.size_bytes > max_bytes:
                    raise too_large(uri, answer.size_bytes, max_bytes)
                data = await answer.read()
                if span is not None:
                    if len(data) == span[1] - span[0]:
                        return data
                    raise DamagedError(f"{uri} from byte {span[0]} was not answered right; {_wanted(span)}; try again")
                # the same misfit twice is no accident
                if answer.fits(data) or (data == misfit and answer.doubt()):
                    return data
                misfit = data
                raise DamagedError(f"{uri} arrived damaged; expected the stored bytes; try again")
            except Exception as error:
                if not attempts_left or not is_broken(error):
                    raise
            finally:
                answer.close()
            await asyncio.sleep(PAUSE_S * 2 ** (ATTEMPTS - attempts_left - 1))


def _wanted(span: Span) -> str:
    return f"expected {span[1] - span[0]} bytes"


class RangeReader(io.RawIOBase):
    """An object as a file, read in spans; its errors, which come late, are StorageErrors too."""

    def __init__(self, read_span: Callable[[int, int], bytes], size_bytes: int, uri: str):
        self.read_span, self.size_bytes, self.uri = read_span, size_bytes, uri
        self.place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        stop = min(self.place + len(view), self.size_bytes)
        if stop <= self.place:
            return 0
        with explained(self.uri):
            data = self.read_span(self.place, stop)
        view[: len(data)] = data
        self.place = stop
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size_bytes}
        if (place := starts[whence] + offset) < 0:
            raise ValueError(f"seek to byte {place}; expected one in the file; correct it")
        self.place = place
        return place

    def tell(self) -> int:
        return self.place
