"""Requests to S3 or a server that speaks it, through s3fs; imported when needed."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiobotocore.session import get_session
from s3fs import S3FileSystem

from seit_ray.storage.contract import Access
from seit_ray.storage.entry import Entries
from seit_ray.storage.errors import StorageError, causes_of, explain, may_pass
from seit_ray.storage.objects import Objects
from seit_ray.storage.patience import REQUEST_PAUSE_S, REQUESTS, REQUESTS_OF_CHECKS
from seit_ray.storage.s3_pages import EVENT, OBJECTS, read_objects
from seit_ray.storage.service import Answer, Head, Page, RefusedError, Span


def connect(access: Access, environment: Mapping[str, str], patient: bool) -> Objects:
    """The store for this access and these AWS_* variables.

    patient: ride out outages of some 20 s; otherwise fail within about 2 s, for checks.
    """
    endpoint_url = access["endpoint_url"] or environment.get("AWS_ENDPOINT_URL_S3")
    endpoint_url = endpoint_url or environment.get("AWS_ENDPOINT_URL")
    region = access["region"] or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    requests = REQUESTS if patient else REQUESTS_OF_CHECKS
    config: dict[str, Any] = {
        "max_pool_connections": access["connections"],
        "connect_timeout": 10 if patient else 4,
        "read_timeout": 60 if patient else 15,
        "retries": {"mode": "standard", "total_max_attempts": requests},
    }
    if endpoint_url:
        config["s3"] = {"addressing_style": "path"}  # other servers rarely have a host name for each bucket
    session = get_session()
    session.register(EVENT, read_objects)
    file_system = S3FileSystem(
        session=session,
        anon=access["anonymous"],
        endpoint_url=endpoint_url,
        key=access["access_key_id"],
        secret=access["secret_access_key"],
        token=access["session_token"],
        requester_pays=access["requester_pays"],
        config_kwargs=config,
        client_kwargs={"region_name": region} if region else {},
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return Objects(S3(file_system, access["connections"], requests))


def _refused(failure: Mapping[str, str]) -> RefusedError:
    """What the answer to DeleteObjects says of a key."""
    return RefusedError(200, failure.get("Code", ""), failure.get("Message", ""))


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

    def doubt(self) -> bool:
        """Whether the ETags of this server are something else: taken so from then on."""
        if self.are_md5 is not None:
            return False
        self.are_md5 = False
        return True


class S3:
    """The `Service` of S3; raises what s3fs and its client raise. requests: at most of each kind."""

    scheme = "s3"
    is_exclusive = False  # servers other than AWS may know no conditions
    is_sorted = True

    def __init__(self, file_system: S3FileSystem, connections: int, requests: int = REQUESTS):
        self.file_system, self.connections, self.requests = file_system, connections, requests
        self.loop = file_system.loop
        self.digests: dict[str, Digests] = {}  # by bucket

    def split(self, path: str) -> tuple[str, str]:
        """(bucket, key) of a path."""
        if path.startswith("arn:"):  # an access point, whose name holds slashes
            bucket, key, _ = self.file_system.split_path(path)
        else:  # s3fs would drop slashes in front of a key, and what follows ?versionId= in it
            bucket, _, key = path.partition("/")
        return bucket, key

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
        """One list_objects_v2."""
        request = {"StartAfter": base + after if after else None, "ContinuationToken": token, "MaxKeys": limit}
        request["Delimiter"] = delimiter or None
        given = {name: value for name, value in request.items() if value is not None}
        answer = self.file_system.call_s3("list_objects_v2", Bucket=bucket, Prefix=base + prefix, **given)
        start, (keys, *more) = len(base), answer.get(OBJECTS, ([], [], [], []))
        objects = Entries([key[start:] for key in keys] if start else keys, *more)
        folders = [item["Prefix"][start:] for item in answer.get("CommonPrefixes", ())]
        goes_on = answer.get("IsTruncated")
        following = answer.get("NextContinuationToken") if goes_on else None
        if goes_on is None or (goes_on and (not following or following == token)):  # of a proxy, or cut short
            raise StorageError(
                f"s3://{bucket}/{base}{prefix}: a page of the listing that does not say whether and where it goes on; "
                "expected an answer of S3; try again, and look at the endpoint and at proxies before it",
                "unavailable",
            )
        return Page(objects, folders, following)

    def head(self, bucket: str, key: str) -> Head | None:
        """None where there is no such object, whatever the reason: the answer to HEAD does not say it."""
        try:
            answer = self.file_system.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return Head(answer["ContentLength"], answer["ETag"].strip('"'))

    async def get(self, bucket: str, key: str, span: Span | None = None) -> Answer:
        """A plain GET, whose answer has the checksum; that of a span has it not.

        The cat of s3fs would ask for the size first, which doubles the requests, and expand '*' and '[' in names.
        """
        more: dict[str, Any] = dict(self.file_system.req_kw)
        if span is not None:
            more["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        client = await self.file_system.set_session()
        answer = await client.get_object(Bucket=bucket, Key=key, **more)
        digests, body = self._digests(bucket), answer["Body"]
        return Answer(
            answer.get("ETag", "").strip('"'),
            answer["ContentLength"],
            body.read,
            body.close,
            lambda data: digests.fits(answer, data),
            digests.doubt,
        )

    def put(self, bucket: str, key: str, data: bytes) -> bool | None:
        """One PUT, or a multipart upload from 100 MiB, checked by CRC."""
        answer = self.file_system.pipe_file(f"{bucket}/{key}", data)
        return None if answer is None else self._digests(bucket).fits(answer, data)

    def put_new(self, bucket: str, key: str, data: bytes) -> bool:
        """PUT on condition that there is no object; False when the server refuses for there is one."""
        try:
            self.file_system.call_s3("put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except Exception as error:
            causes = set(causes_of(error))
            if causes & {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}:
                return False
            if not causes & {"NotImplemented", "501"}:
                raise
            self.put(bucket, key, data)
        return True

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """At once, or one by one where the service has no such request, as that of Google."""
        if len(keys) > 1:
            try:
                self._delete_at_once(bucket, keys)
                return
            except StorageError:
                raise
            except Exception as error:  # s3fs makes many kinds of it
                causes = {str(cause) for cause in causes_of(error)}
                if not {"NotImplemented", "MethodNotAllowed", "501", "405"} & causes:
                    raise
        for key in keys:
            self.file_system.call_s3("delete_object", Bucket=bucket, Key=key)

    def _delete_at_once(self, bucket: str, keys: Sequence[str]) -> None:
        """What is refused may be so for a moment: a request answers for each key by itself."""
        left, pause = list(keys), REQUEST_PAUSE_S
        for attempt in range(1, self.requests + 1):
            listed = {"Objects": [{"Key": key} for key in left], "Quiet": True}
            answer = self.file_system.call_s3("delete_objects", Bucket=bucket, Delete=listed)
            failed = {failure["Key"]: _refused(failure) for failure in answer.get("Errors", ())}
            for key, error in failed.items():
                explained = explain(error, f"s3://{bucket}/{key}")
                if attempt == self.requests or not may_pass(explained):
                    raise explained
            if not failed:
                return
            left = list(failed)
            time.sleep(pause)
            pause *= 2

    def _digests(self, bucket: str) -> Digests:
        return self.digests.setdefault(bucket, Digests())
