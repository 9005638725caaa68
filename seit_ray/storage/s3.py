"""Objects on S3 or a server that speaks it, through s3fs; paths are 'bucket/key'; imported when needed."""

from __future__ import annotations

import asyncio
import functools
import io
import os
from collections.abc import Iterator, Sequence

import aiohttp
from botocore.exceptions import FlexibleChecksumError, HTTPClientError
from fsspec.asyn import sync
from s3fs import S3FileSystem

from seit_ray.storage.entry import Entry, is_hidden
from seit_ray.storage.errors import StorageError, explained, too_large

CONNECTIONS = 64
BODY_ATTEMPTS = 4
BUFFER_BYTES = 1 << 20
# botocore repeats a request that fails, not a body that breaks off, stalls or arrives damaged.
BROKEN_BODY = (HTTPClientError, FlexibleChecksumError, aiohttp.ClientError, asyncio.TimeoutError)


def connect(options: dict, *, patient: bool = True) -> S3Store:
    """The store for these arguments of Folder and the AWS_* variables of now, shared inside the process.

    patient: ride out outages of some 20 s; otherwise fail within about 2 s, for checks.
    """
    environment = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    return _connect(tuple(sorted(options.items())), tuple(environment), os.getpid(), patient)


@functools.lru_cache(maxsize=16)
def _connect(options: tuple, environment: tuple, pid: int, patient: bool) -> S3Store:
    # The key holds all that decides who we are, so that new credentials never meet an old connection (s3fs
    # would keep instances by its arguments alone), and the pid, as an event loop does not survive a fork.
    given, env = dict(options), dict(environment)
    endpoint_url = given["endpoint_url"] or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    region = given["region"] or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    config = {
        "max_pool_connections": CONNECTIONS,
        "connect_timeout": 10 if patient else 4,
        "read_timeout": 60 if patient else 15,
        "retries": {"mode": "standard", "total_max_attempts": 6 if patient else 2},
    }
    if endpoint_url:
        config["s3"] = {"addressing_style": "path"}  # other servers rarely have a host name for each bucket
    file_system = S3FileSystem(
        anon=given["anonymous"],
        endpoint_url=endpoint_url,
        key=given["access_key_id"],
        secret=given["secret_access_key"],
        token=given["session_token"],
        config_kwargs=config,
        client_kwargs={"region_name": region} if region else {},
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return S3Store(file_system)


class S3Store:
    """The operations of a Folder on 'bucket/key'; raises what s3fs raises, which the Folder explains."""

    def __init__(self, file_system: S3FileSystem):
        self.file_system = file_system

    def read_many(self, paths: Sequence[str], max_bytes: int | None) -> list[bytes | Exception]:
        """Contents in the order of paths, CONNECTIONS at once; an error in place of what cannot be read."""
        # One plain GET each: the cat of s3fs asks for the size first, which doubles the requests, and expands
        # '*' and '[' in names; a ranged GET would skip the comparison with the checksum that S3 stored.
        client = self.file_system.s3

        async def read_all():
            slots = asyncio.Semaphore(CONNECTIONS)
            reads = (_get(client, slots, *self._split(path), max_bytes) for path in paths)
            return await asyncio.gather(*reads, return_exceptions=True)

        return sync(self.file_system.loop, read_all)

    def open(self, path: str) -> io.BufferedReader:
        """A seekable binary file that fetches ranges of BUFFER_BYTES or more."""
        file = self.file_system.open(path, "rb", cache_type="none")
        return io.BufferedReader(_RangeReader(file, f"s3://{path}"), BUFFER_BYTES)

    def write(self, path: str, data: bytes) -> None:
        """One PUT, or a multipart upload from 100 MiB, checked by CRC; S3 shows it whole or not at all."""
        self.file_system.pipe_file(path, data)

    def size(self, path: str) -> int | None:
        """Bytes of the object; None when there is none."""
        try:
            return self._call("head_object", path)["ContentLength"]
        except FileNotFoundError:
            return None

    def list(self, root: str, prefix: str, include_hidden: bool) -> Iterator[Entry]:
        """Objects below root whose relative key starts with prefix, in key order, one page in memory."""
        start = len(self._folder_key(root))
        for page in self._pages(root, prefix):
            for item in page.get("Contents", ()):
                name = item["Key"][start:]
                if name and not name.endswith("/") and (include_hidden or not is_hidden(name, prefix)):
                    yield Entry(name, item["Size"], item["LastModified"].isoformat())

    def list_folders(self, root: str) -> list[str]:
        """Names of the folders directly below root, sorted."""
        start = len(self._folder_key(root))
        pages = self._pages(root, "", Delimiter="/")
        names = [item["Prefix"][start:-1] for page in pages for item in page.get("CommonPrefixes", ())]
        return sorted((name for name in names if name and not is_hidden(name)), key=str.encode)

    def delete(self, path: str) -> None:
        """Removes the object, if there is one."""
        self._call("delete_object", path)

    def delete_tree(self, path: str) -> None:
        """Removes all objects below path, a page at a time."""
        bucket = self._split(path)[0]
        for page in self._pages(path, ""):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if not keys:
                continue
            order = {"Objects": keys, "Quiet": True}
            answer = self.file_system.call_s3("delete_objects", Bucket=bucket, Delete=order)
            for failure in answer.get("Errors", ()):
                raise StorageError(
                    f"s3://{bucket}/{failure['Key']} was not deleted: {failure['Code']}; "
                    "expected the right to delete; check the policy of the bucket",
                    "denied",
                )

    def check_readable(self, path: str) -> None:
        """Raises unless path is an object or has some below it that can be read; a bucket may be empty."""
        bucket, key = self._split(path)
        # Listing first: its answer says what is wrong, that of HEAD has no body.
        below = self.file_system.call_s3("list_objects_v2", Bucket=bucket, Prefix=self._folder_key(path), MaxKeys=1)
        first = below["Contents"][0]["Key"] if below.get("Contents") else key
        if first:
            self._call("head_object", f"{bucket}/{first}")

    def _split(self, path: str) -> tuple[str, str]:
        bucket, key, _ = self.file_system.split_path(path)
        return bucket, key

    def _folder_key(self, path: str) -> str:
        key = self._split(path)[1]
        return f"{key}/" if key else ""

    def _call(self, operation: str, path: str):
        bucket, key = self._split(path)
        return self.file_system.call_s3(operation, Bucket=bucket, Key=key)

    def _pages(self, root: str, prefix: str, **request) -> Iterator[dict]:
        request |= {"Bucket": self._split(root)[0], "Prefix": self._folder_key(root) + prefix}
        while True:
            page = self.file_system.call_s3("list_objects_v2", **request)
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]


async def _get(client, slots: asyncio.Semaphore, bucket: str, key: str, max_bytes: int | None) -> bytes:
    """The bytes of one object; a broken body is fetched again."""
    async with slots:
        attempts_left = BODY_ATTEMPTS
        while True:
            response = await client.get_object(Bucket=bucket, Key=key)
            attempts_left -= 1
            try:
                if max_bytes is not None and response["ContentLength"] > max_bytes:
                    raise too_large(f"s3://{bucket}/{key}", response["ContentLength"], max_bytes)
                return await response["Body"].read()
            except BROKEN_BODY:
                if not attempts_left:
                    raise
            finally:
                response["Body"].close()
            await asyncio.sleep(0.2 * 2 ** (BODY_ATTEMPTS - attempts_left))


class _RangeReader(io.RawIOBase):
    """A file of s3fs whose errors, which come late because it is read lazily, are StorageErrors too."""

    def __init__(self, file, uri: str):
        self.file = file
        self.uri = uri

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        with explained(self.uri):
            data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()
        super().close()
