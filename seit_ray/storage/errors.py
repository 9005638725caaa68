"""What can go wrong with a file system, as one clear line."""

import contextlib
import errno
import urllib.parse
from collections.abc import Iterator

_OBJECT = "an object that can be read"
_ACCESS = "credentials that may do this"
_SERVER = "a server that answers"
_SECRET = "the secret that belongs to the access key"
_KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or what you gave instead"
_POLICY = "check the credentials and the policy of the bucket"
_RETRY = "try again, with fewer requests at once if it repeats"
_REGION = "set AWS_REGION, or region, to the region of the bucket"
_ENDPOINT = "check AWS_ENDPOINT_URL, or endpoint_url, and the network"
_PATH = "check the path"
_PERMISSIONS = "change its permissions or the path"
_SPACE = "free some space or choose another path"

# S3 error code, HTTP status, errno or exception class -> kind, what is wrong, what was expected, the mend.
_CAUSES = {
    "NoSuchBucket": (
        "invalid",
        "is in a bucket that does not exist",
        "an existing bucket",
        "correct the name",
    ),
    "NoSuchKey": ("missing", "does not exist", _OBJECT, "check the bucket and the key"),
    "404": ("missing", "does not exist", _OBJECT, "check the bucket and the key"),
    "InvalidObjectState": (
        "archived",
        "lies in an archive class (Glacier) and is not restored",
        "an object that can be read at once",
        "restore it, or leave it out",
    ),
    "AccessDenied": ("denied", "is not accessible: access denied", _ACCESS, _POLICY),
    "403": ("denied", "is not accessible: access denied (HTTP 403)", _ACCESS, _POLICY),
    "SignatureDoesNotMatch": (
        "credentials",
        "is not accessible: wrong secret access key (SignatureDoesNotMatch)",
        _SECRET,
        _KEYS,
    ),
    "InvalidAccessKeyId": (
        "credentials",
        "is not accessible: unknown access key (InvalidAccessKeyId)",
        _ACCESS,
        _KEYS,
    ),
    "ExpiredToken": ("credentials", "is not accessible: the session token has expired", _ACCESS, _KEYS),
    "InvalidToken": ("credentials", "is not accessible: the session token is invalid", _ACCESS, _KEYS),
    "NoCredentialsError": (
        "credentials",
        "is not accessible: no credentials found",
        _ACCESS,
        f"{_KEYS}; a public bucket needs anonymous",
    ),
    "PartialCredentialsError": (
        "credentials",
        "is not accessible: half of the credentials is missing",
        _ACCESS,
        _KEYS,
    ),
    "ProfileNotFound": (
        "credentials",
        "is not accessible: AWS_PROFILE names no profile",
        _ACCESS,
        "unset AWS_PROFILE",
    ),
    "RequestTimeTooSkewed": (
        "credentials",
        "is not accessible: the clocks differ",
        "the right time",
        "set the clock",
    ),
    "PermanentRedirect": ("invalid", "lies in another region", "the region of the bucket", _REGION),
    "301": ("invalid", "lies in another region", "the region of the bucket", _REGION),
    "AuthorizationHeaderMalformed": (
        "invalid",
        "lies in another region",
        "the region of the bucket",
        _REGION,
    ),
    "InvalidBucketName": (
        "invalid",
        "has an invalid bucket name",
        "3 to 63 of a-z, 0-9, '.', '-'",
        "correct it",
    ),
    "ParamValidationError": ("invalid", "has an invalid bucket name or key", "s3://BUCKET/KEY", "correct it"),
    "XAmzContentSHA256Mismatch": ("unavailable", "was refused: it arrived damaged", "the sent bytes", _RETRY),
    "BadDigest": ("unavailable", "was refused: it arrived damaged", "the sent bytes", _RETRY),
    "PreconditionFailed": ("invalid", "was written by another at the same time", "one writer", _RETRY),
    "SlowDown": ("unavailable", "was refused: too many requests (SlowDown)", _SERVER, _RETRY),
    "500": ("unavailable", "was refused: internal error of the server (HTTP 500)", _SERVER, _RETRY),
    "502": ("unavailable", "was refused: bad gateway (HTTP 502)", _SERVER, _RETRY),
    "503": ("unavailable", "was refused: the service is unavailable (HTTP 503)", _SERVER, _RETRY),
    "504": ("unavailable", "was refused: gateway timeout (HTTP 504)", _SERVER, _RETRY),
    "507": ("full", "was not written: the storage is full (HTTP 507)", "free space", _SPACE),
    errno.ENOENT: ("missing", "does not exist", "an existing path", _PATH),
    errno.ENOTDIR: ("missing", "does not exist: a part of its path is a file", "an existing path", _PATH),
    errno.ELOOP: ("missing", "is a symbolic link that leads nowhere", "a link to a file", "correct the link"),
    errno.EISDIR: ("missing", "is a folder", "a file", _PATH),
    errno.ENAMETOOLONG: (
        "missing",
        "has a name that is too long",
        "a name of at most 255 bytes",
        "shorten it",
    ),
    errno.EACCES: (
        "denied",
        "is not accessible: permission denied",
        "a path this user may use",
        _PERMISSIONS,
    ),
    errno.EPERM: (
        "denied",
        "is not accessible: operation not permitted",
        "a path this user may use",
        _PERMISSIONS,
    ),
    errno.EROFS: ("denied", "lies on a read-only file system", "a writable path", "choose another path"),
    errno.ENOSPC: ("full", "was not written: the disk is full", "free space", _SPACE),
    errno.EDQUOT: ("full", "was not written: the quota is used up", "free space", _SPACE),
    errno.EMFILE: (
        "unavailable",
        "was not opened: too many open files",
        "free file handles",
        "raise ulimit -n",
    ),
    "FileNotFoundError": ("missing", "does not exist", _OBJECT, _PATH),
    "PermissionError": ("denied", "is not accessible: access denied", _ACCESS, _POLICY),
    "EndpointConnectionError": ("unavailable", "is unreachable: no server answers there", _SERVER, _ENDPOINT),
    "ConnectTimeoutError": ("unavailable", "is unreachable: connecting timed out", _SERVER, _ENDPOINT),
    "SSLError": ("unavailable", "is unreachable: no secure connection", "a trusted certificate", _ENDPOINT),
    "FlexibleChecksumError": ("unavailable", "arrived damaged: wrong checksum", "the stored bytes", _RETRY),
    "ReadTimeoutError": ("unavailable", "stopped answering", _SERVER, _RETRY),
    "TimeoutError": ("unavailable", "stopped answering", _SERVER, _RETRY),
    "HTTPClientError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    "ClientPayloadError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    "ClientConnectionError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    "ConnectionError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
}


class StorageError(ValueError):
    """A failed storage operation, as one line for the user.

    kind: 'missing', 'too_large', 'changed' and 'archived' are about the object; 'unavailable' may pass (network,
    throttling); 'denied', 'credentials', 'full' and 'invalid' are about the set-up. Only the first four may count as
    a bad image, and 'denied' where the same rights read other images.
    """

    def __init__(self, message: str, kind: str = "invalid"):
        super().__init__(message, kind)
        self.kind = kind

    def __str__(self) -> str:
        return self.args[0]


class DamagedError(StorageError):
    """Bytes that are not those that were stored."""

    def __init__(self, message: str, kind: str = "unavailable"):
        super().__init__(message, kind)


def may_pass(error: BaseException | None) -> bool:
    """Whether the trouble of a storage, or a node on the way to it, that may be over when the same is tried again."""
    return isinstance(error, StorageError) and error.kind == "unavailable"


def too_large(uri: str, size_bytes: int, max_bytes: int) -> StorageError:
    """The error for an object beyond the limit; sizes in bytes."""
    return StorageError(
        f"size {size_bytes} bytes of {uri}; expected at most {max_bytes}; raise the limit or remove the object",
        "too_large",
    )


def changed(uri: str) -> StorageError:
    """The error for an object that is no longer the one that was listed."""
    return StorageError(
        f"{uri} changed since it was listed; expected the listed version; list the source again, into a new output",
        "changed",
    )


def explain(error: Exception, uri: str) -> StorageError:
    """The StorageError for any exception of a file system about uri, with that exception as its cause."""
    if isinstance(error, StorageError):
        return error
    for cause in causes_of(error):
        if cause in _CAUSES:
            kind, wrong, expected, mend = _CAUSES[cause]
            explained = StorageError(f"{uri} {wrong}{_server_of(error)}; expected {expected}; {mend}", kind)
            break
    else:
        lines = str(error).splitlines() or [""]
        explained = StorageError(
            f"{uri} failed with {type(error).__name__} {lines[0]}; "
            "expected a working storage; check the uri and the server"
        )
    explained.__cause__ = error
    return explained


def causes_of(error: BaseException) -> Iterator[str | int | None]:
    """Keys into _CAUSES, the most precise first."""
    link: BaseException | None = error
    while link is not None:
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            yield response.get("Error", {}).get("Code")
            yield str(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        link = link.__cause__
    yield getattr(error, "errno", None)
    yield from (cls.__name__ for cls in type(error).__mro__)


def _server_of(error: Exception) -> str:
    """' (http://host:port)' for the errors that know which server did not answer."""
    details = getattr(error, "kwargs", None)
    url = urllib.parse.urlsplit(str(details.get("endpoint_url") or "")) if isinstance(details, dict) else None
    return f" ({url.scheme}://{url.netloc})" if url and url.netloc else ""


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns every exception inside into the StorageError about uri."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise explain(error, uri) from error
