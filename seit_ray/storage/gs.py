"""Requests to Google Cloud Storage: gcsfs finds the credentials, the project and the server; imported when needed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
from fsspec.asyn import get_loop, sync
from gcsfs.core import GCSFileSystem
from yarl import URL

from seit_ray.storage.contract import Access
from seit_ray.storage.errors import StorageError
from seit_ray.storage.gs_json import FIELDS, crc32c_of, entry_of, quoted, refusal
from seit_ray.storage.objects import Objects
from seit_ray.storage.patience import REQUESTS, REQUESTS_OF_CHECKS, repeated
from seit_ray.storage.service import Answer, Head, Page, RefusedError, Span
from seit_ray.storage.sessions import new_session, proxy_of

GENERATION, HASHES = "x-goog-generation", "x-goog-hash"
JSON = {"Accept-Encoding": "identity"}
NO_MORE: Mapping[str, str] = {}
BYTES = {"Accept-Encoding": "gzip"}  # else objects that are stored gzipped arrive unpacked, unlike their checksum


def connect(access: Access, environment: Mapping[str, str], patient: bool) -> Objects:
    """The store for this access and Google's variables, as `s3.connect`.

    An emulator (STORAGE_EMULATOR_HOST) is shown no credentials.
    """
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it prints tracebacks of what is explained here
    is_anonymous = access["anonymous"] or bool(environment.get("STORAGE_EMULATOR_HOST"))
    file_system = GCSFileSystem(
        token="anon" if is_anonymous else "google_default",
        requester_pays=access["requester_pays"],
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    project = environment.get("GOOGLE_CLOUD_PROJECT") or file_system.project
    if access["requester_pays"] and not project:
        raise StorageError(
            "storage.requester_pays without a project; expected one that pays; set GOOGLE_CLOUD_PROJECT", "credentials"
        )
    payer = project if access["requester_pays"] else None
    return Objects(GoogleStorage(file_system, access["connections"], payer, patient))


class GoogleStorage:
    """The `Service` of Google Cloud Storage, by its JSON interface; versions are generations."""

    scheme = "gs"
    is_exclusive = True
    is_sorted = True

    def __init__(self, file_system: GCSFileSystem, connections: int, payer: str | None, patient: bool):
        self.file_system, self.connections = file_system, connections
        self.always = {"userProject": payer} if payer else {}
        self.requests = REQUESTS if patient else REQUESTS_OF_CHECKS
        self.loop = get_loop()
        self.session = new_session(self, connections, patient=patient)
        self.url = file_system.base.rstrip("/")  # https://storage.googleapis.com/storage/v1
        self.upload_url = self.url.removesuffix("/storage/v1") + "/upload/storage/v1"

    def split(self, path: str) -> tuple[str, str]:
        """(bucket, key) of a path."""
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
        """One answer of objects.list; its startOffset is the first that is listed."""
        query = {"prefix": base + prefix, "startOffset": base + after if after else "", "pageToken": token or ""}
        query |= {"delimiter": delimiter, "maxResults": str(limit or ""), "fields": FIELDS}
        answer = self._json_of_bucket("GET", f"{self.url}/b/{quoted(bucket)}/o", query)
        objects = [entry_of(item, len(base)) for item in answer.get("items", ())]
        return Page(
            [entry for entry in objects if not after or entry.name != after],
            [folder[len(base) :] for folder in answer.get("prefixes", ())],
            answer.get("nextPageToken") or None,
        )

    def head(self, bucket: str, key: str) -> Head | None:
        """None where there is no such object, or bucket."""
        try:
            found = self._json("GET", self._url_of(bucket, key), {"fields": "size,generation"})
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return Head(int(found["size"]), str(found["generation"]))

    async def get(self, bucket: str, key: str, span: Span | None = None) -> Answer:
        """The bytes as they are stored."""
        more = BYTES if span is None else {**BYTES, "Range": f"bytes={span[0]}-{span[1] - 1}"}
        url = self._url_of(bucket, key)
        try:
            response = await repeated(lambda: self._request("GET", url, {"alt": "media"}, headers=more), self.requests)
        except RefusedError as error:
            if error.code == "404":
                await self._check_bucket(bucket)
            raise
        headers = response.headers
        hashes = dict(part.strip().partition("=")[::2] for part in ",".join(headers.getall(HASHES, ())).split(","))
        length = headers.get("x-goog-stored-content-length") or headers.get("Content-Length") or "0"
        return Answer(
            headers.get(GENERATION, ""),
            int(length),
            response.read,
            response.close,
            lambda data: hashes.get("crc32c") in (None, crc32c_of(data)),
            lambda: False,
        )

    def put(self, bucket: str, key: str, data: bytes) -> bool | None:
        """One upload, shown once it is whole."""
        return self._put(bucket, key, data, {})

    def put_new(self, bucket: str, key: str, data: bytes) -> bool:
        """On condition that there is no object: its generation is 0."""
        try:
            self._put(bucket, key, data, {"ifGenerationMatch": "0"})
        except RefusedError as error:
            if error.status == 412:
                return False
            raise
        return True

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """One request each, `connections` at once."""

        async def delete_all() -> None:
            slots = asyncio.Semaphore(self.connections)
            await asyncio.gather(*(self._delete(slots, bucket, key) for key in keys))

        sync(self.loop, delete_all)

    async def _delete(self, slots: asyncio.Semaphore, bucket: str, key: str) -> None:
        url = self._url_of(bucket, key)
        async with slots:
            try:
                await repeated(lambda: self._request("DELETE", url, {}, headers=JSON), self.requests)
            except RefusedError as error:
                if error.code not in ("NoSuchKey", "404"):
                    raise

    def _put(self, bucket: str, key: str, data: bytes, condition: Mapping[str, str]) -> bool | None:
        """As `put`: the checksum goes first, so that what arrives damaged is refused."""
        url, mark = f"{self.upload_url}/b/{quoted(bucket)}/o", f"part-{uuid.uuid4().hex}"
        about = json.dumps({"name": key, "crc32c": crc32c_of(data)})
        head = (
            f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n"
            f"--{mark}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        body = b"".join([head.encode(), data, f"\r\n--{mark}--\r\n".encode()])
        kind = {"Content-Type": f"multipart/related; boundary={mark}"}
        answer = self._json_of_bucket("POST", url, {"uploadType": "multipart", **condition}, body, kind)
        return answer["crc32c"] == crc32c_of(data) if "crc32c" in answer else None

    def _url_of(self, bucket: str, key: str) -> str:
        return f"{self.url}/b/{quoted(bucket)}/o/{quoted(key)}"

    def _json(
        self, method: str, url: str, query: dict[str, str], data: bytes | None = None, more: Mapping[str, str] = NO_MORE
    ) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            response = await self._request(method, url, query, data=data, headers={**JSON, **more})
            return json.loads(await response.read())

        return sync(self.loop, repeated, ask, self.requests)

    def _json_of_bucket(self, *request: Any) -> dict[str, Any]:
        """As `_json`, of a request that finds a bucket or nothing."""
        try:
            return self._json(*request)
        except RefusedError as error:
            if error.status == 404:
                raise RefusedError(404, "NoSuchBucket") from error
            raise

    async def _check_bucket(self, bucket: str) -> None:
        """Raises when there is no such bucket; who may not list does not learn it."""
        try:
            (await self._request("GET", f"{self.url}/b/{quoted(bucket)}/o", {"maxResults": "1"}, headers=JSON)).close()
        except RefusedError as error:
            if error.status == 404:
                raise RefusedError(404, "NoSuchBucket") from error

    async def _request(
        self, method: str, url: str, query: dict[str, str], *, headers: Mapping[str, str], data: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """One request, once; the body of the answer is not read yet, but where there is none."""
        asked = urlencode({name: value for name, value in (query | self.always).items() if value})
        sent = dict(headers)
        self.file_system.credentials.apply(sent)
        whole = URL(f"{url}?{asked}" if asked else url, encoded=True)
        body = None if data is None else io.BytesIO(data)  # in pieces: a whole one would hold the loop
        response = await self.session.request(method, whole, headers=sent, data=body, proxy=proxy_of(URL(str(whole))))
        if response.status >= 400:
            raise refusal(response.status, (await response.read()).decode(errors="replace"))
        if response.status == 204:
            response.release()
        return response
