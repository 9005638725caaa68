"""Objects on S3 or a server that speaks it, through s3fs; paths are 'bucket/key'; imported when needed."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fsspec.asyn import sync
from s3fs import S3FileSystem

from seit_ray.storage.contract import Access
from seit_ray.storage.entry import Entry, is_hidden
from seit_ray.storage.errors import DamagedError, StorageError, causes_of
from seit_ray.storage.s3_bodies import ATTEMPTS, Digests, RangeReader, get_object
from seit_ray.storage.s3_listing import listed

CONNECTIONS = 64
BUFFER_BYTES = 1 << 20
SETTLE_S = 2.0  # longer than a small PUT takes
Pairs = tuple[tuple[str, Any], ...]


def connect(access: Access, *, patient: bool = True) -> S3Store:
    """The store for this access and the AWS_* variables of now, shared inside the process.

    patient: ride out outages of some 20 s; otherwise fail within about 2 s, for checks.
    """
    environment = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    return _connect(tuple(sorted(access.items())), tuple(environment), os.getpid(), patient)


@functools.lru_cache(maxsize=16)
def _connect(access: Pairs, environment: Pairs, pid: int, patient: bool) -> S3Store:
    # The key holds all that decides who we are, so that new credentials never meet an old connection (s3fs
    # would keep instances by its arguments alone), and the pid, as an event loop does not survive a fork.
    given, env = dict(access), dict(environment)
    endpoint_url = given["endpoint_url"] or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    region = given["region"] or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    config: dict[str, Any] = {
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
        self.digests: dict[str, Digests] = {}  # by bucket

    def read_many(
        self, paths: Sequence[str], max_bytes: int | None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | Exception]:
        """Contents in the order of paths, CONNECTIONS at once; an error in place of what cannot be read."""
        # One plain GET each: the cat of s3fs asks for the size first, which doubles the requests, and expands
        # '*' and '[' in names; a ranged GET would skip the comparison with the checksum that S3 stored.
        client = self.file_system.s3
        known = versions or [None] * len(paths)

        async def read_all() -> list[bytes | BaseException]:
            slots = asyncio.Semaphore(CONNECTIONS)
            reads = (
                get_object(client, slots, *self._split(path), max_bytes, self._digests(path), version)
                for path, version in zip(paths, known, strict=True)
            )
            return await asyncio.gather(*reads, return_exceptions=True)

        return sync(self.file_system.loop, read_all)

    def open(self, path: str) -> io.BufferedReader:
        """A seekable binary file that fetches ranges of BUFFER_BYTES or more."""
        file = self.file_system.open(path, "rb", cache_type="none")
        return io.BufferedReader(RangeReader(file, f"s3://{path}"), BUFFER_BYTES)

    def write(self, path: str, data: bytes) -> None:
        """One PUT, or a multipart upload from 100 MiB, checked by CRC; S3 shows it whole or not at all.

        What the answer says was stored is compared with data, and read back where it differs.
        """
        for _ in range(ATTEMPTS):
            answer = self.file_system.pipe_file(path, data)
            if answer is None:  # of several parts
                whole = self.size(path) == len(data)
            else:
                whole = self._digests(path).fits(answer, data) or self.read_many([path], None)[0] == data
            if whole:
                return
        raise DamagedError(f"s3://{path} was stored damaged; expected what was sent; check the server")

    def create(self, path: str, data: bytes) -> bool:
        """Writes the object unless there is one; whether it was written."""
        if self.size(path) is not None or not self._put_new(path, data):
            return False
        # AWS lets one of two writers pass. Other servers let both, when they write at once, or know no conditions:
        # after a pause all see what was written last.
        time.sleep(SETTLE_S)
        return self.read_many([path], None)[0] == data

    def _put_new(self, path: str, data: bytes) -> bool:
        """PUT on condition that there is no object; False when the server refuses for there is one."""
        bucket, key = self._split(path)
        try:
            self.file_system.call_s3("put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except Exception as error:
            causes = set(causes_of(error))
            if causes & {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}:
                return False
            if not causes & {"NotImplemented", "501"}:
                raise
            self.write(path, data)
        return True

    def size(self, path: str) -> int | None:
        """Bytes of the object; None when there is none."""
        try:
            return self._call("head_object", path)["ContentLength"]
        except FileNotFoundError:
            return None

    def version(self, path: str) -> str | None:
        """The ETag of the object; None when there is none."""
        try:
            return self._call("head_object", path)["ETag"].strip('"')
        except FileNotFoundError:
            return None

    def list_folders(self, root: str) -> list[str]:
        """Names of the folders directly below root, sorted."""
        start = len(self._folder_key(root))
        pages = self._pages(root, "", Delimiter="/")
        names = [item["Prefix"][start:-1] for page in pages for item in page.get("CommonPrefixes", ())]
        return sorted((name for name in names if name and not is_hidden(name)), key=str.encode)

    def list(
        self, root: str, prefix: str, include_hidden: bool, on_skipped: Callable[[str], None] | None = None
    ) -> Iterator[Entry]:
        """Objects below root whose relative key starts with prefix, in key order, some pages in memory."""
        start = len(self._folder_key(root))
        ask = functools.partial(self.file_system.call_s3, "list_objects_v2", Bucket=self._split(root)[0])
        for item in listed(ask, self._folder_key(root) + prefix):
            name = item["Key"][start:]
            if name and not name.endswith("/") and (include_hidden or not is_hidden(name, prefix)):
                yield Entry(name, item["Size"], item["LastModified"].isoformat(), item["ETag"].strip('"'))

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
            for failure in self._delete_objects(bucket, keys).get("Errors", ()):
                raise StorageError(
                    f"s3://{bucket}/{failure['Key']} was not deleted: {failure['Code']}; "
                    "expected the right to delete; check the policy of the bucket",
                    "denied",
                )

    def _delete_objects(self, bucket: str, keys: Sequence[dict[str, str]]) -> dict[str, Any]:
        """Removes some objects at once, or one by one where the service has no such request, as that of Google."""
        try:
            return self.file_system.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        except Exception as error:  # s3fs makes many kinds of it
            if not {"NotImplemented", "MethodNotAllowed", "501", "405"} & {str(cause) for cause in causes_of(error)}:
                raise
        for key in keys:
            self.file_system.call_s3("delete_object", Bucket=bucket, **key)
        return {}

    def check_readable(self, path: str) -> None:
        """Raises unless path is an object or has some below it that can be read; a bucket may be empty."""
        bucket, key = self._split(path)
        # Listing first: its answer says what is wrong, that of HEAD has no body.
        below = self.file_system.call_s3("list_objects_v2", Bucket=bucket, Prefix=self._folder_key(path), MaxKeys=1)
        first = below["Contents"][0]["Key"] if below.get("Contents") else key
        if first:
            self._call("head_object", f"{bucket}/{first}")

    def _split(self, path: str) -> tuple[str, str]:
        if path.startswith("arn:"):  # an access point, whose name holds slashes
            bucket, key, _ = self.file_system.split_path(path)
        else:  # s3fs would drop slashes in front of a key, and what follows ?versionId= in it
            bucket, _, key = path.partition("/")
        return bucket, key

    def _digests(self, path: str) -> Digests:
        return self.digests.setdefault(self._split(path)[0], Digests())

    def _folder_key(self, path: str) -> str:
        key = self._split(path)[1]
        return f"{key}/" if key else ""

    def _call(self, operation: str, path: str) -> dict[str, Any]:
        bucket, key = self._split(path)
        return self.file_system.call_s3(operation, Bucket=bucket, Key=key)

    def _pages(self, root: str, prefix: str, **request: Any) -> Iterator[dict[str, Any]]:
        request |= {"Bucket": self._split(root)[0], "Prefix": self._folder_key(root) + prefix}
        while True:
            page = self.file_system.call_s3("list_objects_v2", **request)
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]
