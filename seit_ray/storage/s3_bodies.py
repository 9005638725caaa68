"""Bodies of S3 objects: compared with their checksums, and fetched again where they break off or arrive damaged."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError
from fsspec.spec import AbstractBufferedFile

from seit_ray.storage.errors import DamagedError, changed, explained, too_large

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ATTEMPTS = 4
PAUSE_S = 0.4  # before the second, then twice as long each time
# botocore repeats a request that fails, not a body that breaks off, stalls or arrives damaged.
BROKEN = (
    HTTPClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    DamagedError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
)


class Digests:
    """Whether the ETags of a bucket are MD5s: those of S3 are, of objects in one part, unless KMS encrypts them."""

    def __init__(self) -> None:
        self.are_md5: bool | None = None  # None: not seen yet

    def fits(self, answer: Mapping[str, Any], data: bytes) -> bool:
        """False when the ETag of an answer about an object says that it holds other bytes than data."""
        etag = answer.get("ETag", "").strip('"')
        is_encrypted = answer.get("ServerSideEncryption", "").startswith("aws:kms") or answer.get("SSECustomerKeyMD5")
        if self.are_md5 is False or is_encrypted or not re.fullmatch("[0-9a-f]{32}", etag):
            return True
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != etag:
            return False
        self.are_md5 = True
        return True


async def get_object(
    client: Any,
    slots: asyncio.Semaphore,
    bucket: str,
    key: str,
    max_bytes: int | None,
    digests: Digests,
    version: str | None = None,
) -> bytes:
    """The bytes of one object; a broken or damaged body is fetched again; an error unless its ETag is `version`."""
    misfit: bytes | None = None
    async with slots:
        attempts_left = ATTEMPTS
        while True:
            response = await client.get_object(Bucket=bucket, Key=key)
            attempts_left -= 1
            try:
                if version is not None and response["ETag"].strip('"') != version:
                    raise changed(f"s3://{bucket}/{key}")
                if max_bytes is not None and response["ContentLength"] > max_bytes:
                    raise too_large(f"s3://{bucket}/{key}", response["ContentLength"], max_bytes)
                data = await response["Body"].read()
                if digests.fits(response, data):
                    return data
                if data == misfit and digests.are_md5 is None:  # no accident: this server's ETags are something else
                    digests.are_md5 = False
                    return data
                misfit = data
                raise DamagedError(f"s3://{bucket}/{key} arrived damaged; expected the stored bytes; try again")
            except BROKEN:
                if not attempts_left:
                    raise
            finally:
                response["Body"].close()
            await asyncio.sleep(PAUSE_S * 2 ** (ATTEMPTS - attempts_left - 1))


class RangeReader(io.RawIOBase):
    """A file of s3fs whose errors, which come late because it is read lazily, are StorageErrors too."""

    def __init__(self, file: AbstractBufferedFile, uri: str):
        self.file = file
        self.uri = uri

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        with explained(self.uri):
            place = self.file.tell()
            wanted = min(len(view), self.file.size - place)
            for _ in range(ATTEMPTS if wanted > 0 else 0):
                data = self.file.read(wanted)
                if 0 < len(data) <= wanted:  # the rest of a short answer is asked for next
                    view[: len(data)] = data
                    return len(data)
                self.file.seek(place)
            if wanted > 0:
                raise DamagedError(f"{self.uri} from byte {place} was not answered right; expected {wanted} bytes")
        return 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()
        super().close()
