"""Requests to Azure Blob Storage: adlfs finds the account and the credentials; imported when needed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from adlfs import AzureBlobFileSystem
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobClient, BlobPrefix, ContainerClient
from fsspec.asyn import sync

from seit_ray.storage.contract import Access
from seit_ray.storage.entry import Entry
from seit_ray.storage.errors import StorageError, causes_of
from seit_ray.storage.objects import Objects
from seit_ray.storage.patience import REQUESTS, REQUESTS_OF_CHECKS, repeated
from seit_ray.storage.service import Answer, Head, Page, Span

T = TypeVar("T")
CONNECTION_STRING, ACCOUNT = "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"


def connect(access: Access, environment: Mapping[str, str], patient: bool) -> Objects:
    """The store for this access and Azure's variables, as `s3.connect`."""
    logging.getLogger("azure").addHandler(logging.NullHandler())  # it prints pages on logins that were tried
    given, text = access["account"], environment.get(CONNECTION_STRING)
    if given and text:
        raise StorageError(f"storage.account {given} and {CONNECTION_STRING}; expected one of them; drop the other")
    if not (given or text or environment.get(ACCOUNT)):
        raise StorageError(
            f"az:// without an account; expected {CONNECTION_STRING}, {ACCOUNT} or storage.account; give one",
            "credentials",
        )
    if access["anonymous"]:
        text = f"BlobEndpoint={endpoint_of(text, given or environment.get(ACCOUNT, ''))}"
    file_system = AzureBlobFileSystem(
        account_name=given,
        connection_string=text,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return Objects(AzureBlobs(file_system, access["connections"], patient))


def endpoint_of(connection_string: str | None, account: str) -> str:
    """The address of an account, without the keys to it."""
    parts = dict(part.partition("=")[::2] for part in (connection_string or "").split(";"))
    suffix = parts.get("EndpointSuffix", "core.windows.net")
    account = parts.get("AccountName", account)
    return parts.get("BlobEndpoint") or f"https://{account}.blob.{suffix}"


class AzureBlobs:
    """The `Service` of Azure Blob Storage; versions are ETags."""

    scheme = "az"
    is_exclusive = True
    is_sorted = False  # accounts with folders (hierarchical namespaces) list folder by folder

    def __init__(self, file_system: AzureBlobFileSystem, connections: int, patient: bool):
        self.client, self.loop, self.connections = file_system.service_client, file_system.loop, connections
        self.file_system = file_system  # closes the client when it goes
        self.requests = REQUESTS if patient else REQUESTS_OF_CHECKS
        timeouts = {"connection_timeout": 10 if patient else 4, "read_timeout": 60 if patient else 15}
        # of each request: they are repeated here, as those of the other services are
        self.each: dict[str, Any] = {"retry_total": 0, **timeouts}

    def split(self, path: str) -> tuple[str, str]:
        """(container, name) of a path."""
        container, _, name = path.partition("/")
        return container, name

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
        """One segment of the listing; folders that an account keeps as blobs are no objects."""
        assert not after  # asked for where listings are sorted
        container: ContainerClient = self.client.get_container_client(bucket)
        query: dict[str, Any] = {"name_starts_with": base + prefix, "results_per_page": limit, **self.each}

        async def ask() -> Page:
            items = (
                container.walk_blobs(delimiter=delimiter, **query)
                if delimiter
                else container.list_blobs(include=["metadata"], **query)
            )
            pages: Any = items.by_page(token)
            found = [item async for item in await anext(pages)]
            folders = [item.name[len(base) :] for item in found if isinstance(item, BlobPrefix)]
            objects = [
                entry_of(item, len(base)) for item in found if not isinstance(item, BlobPrefix) and not is_folder(item)
            ]
            return Page(objects, folders, pages.continuation_token or None)

        return self._sync(ask)

    def head(self, bucket: str, key: str) -> Head | None:
        """None where there is no such blob, or container."""
        try:
            found = self._sync(lambda: self._blob(bucket, key).get_blob_properties(**self.each))
        except ResourceNotFoundError:
            return None
        return Head(found.size, found.etag.strip('"'))

    async def get(self, bucket: str, key: str, span: Span | None = None) -> Answer:
        """The bytes; the checksum is that of the whole blob, where there is one."""
        part: dict[str, Any] = {} if span is None else {"offset": span[0], "length": span[1] - span[0]}
        part |= {"max_concurrency": 1, "decompress": False, **self.each}
        blob = self._blob(bucket, key)
        stream = await repeated(lambda: blob.download_blob(**part), self.requests)
        found = stream.properties
        md5 = found.content_settings.content_md5
        return Answer(
            found.etag.strip('"'),
            found.size,
            stream.readall,
            lambda: None,  # it has been read, or is a small one
            lambda data: md5 is None or hashlib.md5(data, usedforsecurity=False).digest() == bytes(md5),
            lambda: True,  # whoever writes a blob may say what they like
        )

    def put(self, bucket: str, key: str, data: bytes) -> bool | None:
        """One request, or blocks and a list of them from 64 MiB on; the service compares the MD5 of each."""
        self._upload(bucket, key, data, overwrite=True)
        return True

    def put_new(self, bucket: str, key: str, data: bytes) -> bool:
        """On condition that there is no blob (If-None-Match)."""
        try:
            self._upload(bucket, key, data, overwrite=False)
        except ResourceExistsError:
            return False
        return True

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """One request each, `connections` at once."""

        async def delete_all() -> None:
            slots = asyncio.Semaphore(self.connections)
            await asyncio.gather(*(self._delete(slots, bucket, key) for key in keys))

        sync(self.loop, delete_all)

    async def _delete(self, slots: asyncio.Semaphore, bucket: str, key: str) -> None:
        blob = self._blob(bucket, key)
        async with slots:
            try:
                await repeated(lambda: blob.delete_blob(delete_snapshots="include", **self.each), self.requests)
            except HttpResponseError as error:
                if "BlobNotFound" not in causes_of(error):
                    raise

    def _upload(self, bucket: str, key: str, data: bytes, overwrite: bool) -> None:
        blob, size = self._blob(bucket, key), len(data)
        self._sync(lambda: blob.upload_blob(data, length=size, overwrite=overwrite, validate_content=True, **self.each))

    def _blob(self, bucket: str, key: str) -> BlobClient:
        return self.client.get_blob_client(bucket, key)

    def _sync(self, request: Callable[[], Awaitable[T]]) -> T:
        return sync(self.loop, repeated, request, self.requests)


def is_folder(blob: Any) -> bool:
    """Whether it is a folder that the account keeps as a blob without bytes."""
    return not blob.size and (blob.metadata or {}).get("hdi_isfolder") == "true"


def entry_of(item: Any, start: int) -> Entry:
    """A blob of a listing, its name from character `start` on."""
    return Entry(item.name[start:], item.size, item.last_modified.isoformat(), item.etag.strip('"'))
