"""What an uri means: its scheme, the store that answers for it, its path there."""

from __future__ import annotations

import functools
import importlib
import os
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any, cast

from seit_ray.storage.contract import Access, ObjectStore, Reader
from seit_ray.storage.errors import StorageError
from seit_ray.storage.local import LocalStore

EXPECTED = "s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH, file:///PATH or a local path"
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
WEB = "https"


@dataclass(frozen=True)
class Cloud:
    """A service with buckets: the module here that connects to it, its variables, the extra and package it needs.

    versions: what its inventories call the column of what `Entry.version` is. endpoints, accounts: of its variables
    those that name a server, and an account; the first that is set counts. profile: the one whose profile may name one.
    """

    module: str
    variables: tuple[str, ...]
    extra: str | None = None
    package: str = ""
    versions: tuple[str, ...] = ("e_tag", "etag", "ETag", "Etag")
    endpoints: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()


CLOUDS = {
    "s3": Cloud("s3", ("AWS_",), endpoints=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), profile=("AWS_PROFILE",)),
    "gs": Cloud(
        "gs",
        ("GOOGLE_", "GCSFS_", "STORAGE_EMULATOR_HOST", "CLOUDSDK_"),
        "gs",
        "gcsfs",
        ("generation",),
        ("STORAGE_EMULATOR_HOST",),
    ),
    "az": Cloud(
        "az",
        ("AZURE_",),
        "az",
        "adlfs",
        endpoints=("AZURE_STORAGE_CONNECTION_STRING",),
        accounts=("AZURE_STORAGE_ACCOUNT_NAME",),
    ),
}
WEB_VARIABLES = ("SSL_CERT_", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
OTHER_NAMES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}


def normalise_uri(uri: str | os.PathLike[str]) -> str:
    """s3://, gs:// or az://bucket/key without trailing slash, or an absolute local path; StorageError for others."""
    text = os.fspath(uri)
    if not text:
        raise StorageError(f"uri ''; expected {EXPECTED}; give one")
    match = SCHEME.match(text)
    if match is None:
        return _absolute(os.path.expanduser(text))
    scheme, rest = match[1].lower(), match[2]
    scheme = OTHER_NAMES.get(scheme, scheme)
    if scheme in CLOUDS and rest.strip("/") and not rest.startswith("/"):
        if scheme == "az" and "@" in rest.partition("/")[0]:
            raise StorageError(
                f"uri {text}; expected az://CONTAINER/PATH; name the account by storage.account or "
                "AZURE_STORAGE_ACCOUNT_NAME"
            )
        return f"{scheme}://{rest.rstrip('/')}"
    if scheme == "file" and rest.removeprefix("localhost").startswith("/"):
        return _absolute(urllib.parse.unquote(rest.removeprefix("localhost")))
    mend = "only images that a table names are read from there" if scheme == WEB else "correct it"
    raise StorageError(
        f"uri {text}; expected {EXPECTED}; {mend}, or reach other stores through their S3 endpoint (endpoint_url)"
    )


def normalise_address(address: str) -> str:
    """As normalise_uri, for what a table may name: https:// too, without what browsers keep to themselves (#...)."""
    match = SCHEME.match(address)
    if match is None or match[1].lower() != WEB:
        try:
            return normalise_uri(address)
        except StorageError as error:  # the fault of one address, whoever else is named beside it
            raise _no_address(address) or StorageError(str(error), "refused") from error
    text = f"{WEB}://{match[2].partition('#')[0]}"
    try:
        parts = urllib.parse.urlsplit(text)
        is_usable = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc and text.isprintable()
    except ValueError:  # a port that is no number, or half of an IPv6 address
        is_usable = False
    if not is_usable:
        # what stands before an @ may be a password
        shown = f"{WEB}://...@{text.rpartition('@')[2]}" if "@" in text else text
        raise StorageError(f"address {shown!r}; expected https://HOST/PATH without a password; correct it", "refused")
    return text


def _no_address(address: str) -> StorageError | None:
    """The error for an address of a scheme that nothing is read from; None for others."""
    match = SCHEME.match(address)
    if match is None or OTHER_NAMES.get(match[1].lower(), match[1].lower()) in (*CLOUDS, "file"):
        return None
    scheme, rest = match[1].lower(), match[2].rpartition("@")[2]
    hidden = "...@" if "@" in match[2] else ""  # may be a password; what stands behind a ? a signature
    query = "?..." if "?" in rest else ""
    mend = "write https://, if the server knows it" if scheme == "http" else "correct it"
    written = f"{scheme}://{hidden}{rest.partition('?')[0]}{query}"
    return StorageError(f"address {written!r}; expected https://HOST/PATH, {EXPECTED}; {mend}", "refused")


def _absolute(path: str) -> str:
    return "/" + os.path.abspath(path).lstrip("/")  # abspath keeps two slashes at the start


def is_remote(uri: str) -> bool:
    """Whether a normalised uri lies in object storage, or at an address, and not on a disk of whoever reads it."""
    return not uri.startswith("/")


def storage_of(uri: str) -> str:
    """Which storage a normalised uri lies in: its scheme; '' for a disk."""
    return uri.partition("://")[0] if is_remote(uri) else ""


def host_of(uri: str) -> str | None:
    """The server that a normalised https:// address names; None for what lies in a bucket or on disk."""
    return urllib.parse.urlsplit(uri).netloc if uri.startswith(f"{WEB}://") else None


def shown(uri: str) -> str:
    """An uri for a message: an https:// address without its query, which may be a signature."""
    return uri.partition("?")[0] + "?..." if "?" in uri and host_of(uri) is not None else uri


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """(uri of the folder, name of the object in it); the name of a bucket alone is ''."""
    text = normalise_uri(uri)
    if is_remote(text) and "/" not in path_of(text):
        return text, ""
    folder, _, name = text.rpartition("/")
    return folder or "/", name


def split_root(uri: str) -> tuple[str, str]:
    """(bucket or local root, path below it) of a normalised uri: one read_many then serves many folders."""
    if not is_remote(uri):
        return "/", uri.lstrip("/")
    scheme, _, path = uri.partition("://")
    if scheme == WEB:  # all servers at once
        return f"{WEB}://", path
    bucket, _, key = path.partition("/")
    return f"{scheme}://{bucket}", key


def path_of(uri: str) -> str:
    """What the store at a normalised uri calls it: a local path, 'bucket/key', or the address."""
    return uri.partition("://")[2] if is_remote(uri) and not uri.startswith(f"{WEB}://") else uri


def reader_at(uri: str, access: Access) -> Reader:
    """What reads a normalised uri, https:// too."""
    if uri.startswith(f"{WEB}://"):
        return _connected("web", _pairs(access), _variables(WEB_VARIABLES), os.getpid(), True)
    return store_at(uri, access)


def store_at(uri: str, access: Access, *, patient: bool = True) -> ObjectStore:
    """The store at a normalised uri, for this access and the variables of now; shared inside the process."""
    if not is_remote(uri):
        return LocalStore()
    cloud = CLOUDS[uri.partition("://")[0]]
    try:
        store = _connected(cloud.module, _pairs(access), _variables(cloud.variables), os.getpid(), patient)
        return cast(ObjectStore, store)
    except ImportError as error:
        if cloud.extra is None:
            raise
        raise StorageError(
            f"{uri} needs the package {cloud.package} ({error}); expected it on every machine that reads this; "
            f"pip install {cloud.package}, or 'seit_ray[{cloud.extra}]'"
        ) from error


def _variables(beginnings: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(beginnings)))


def _pairs(access: Access) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(access.items()))


@functools.lru_cache(maxsize=16)
def _connected(
    module: str,
    access: tuple[tuple[str, Any], ...],
    environment: tuple[tuple[str, str], ...],
    pid: int,
    patient: bool,
) -> Reader:
    # The key holds all that decides who we are, so that new credentials never meet an old connection (fsspec would
    # keep instances by their arguments alone), and the pid, as an event loop does not survive a fork.
    # Imported here: a library of half a second, that only its own scheme needs.
    connect = importlib.import_module(f"seit_ray.storage.{module}").connect
    return connect(cast(Access, dict(access)), dict(environment), patient)
