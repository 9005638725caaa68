"""What can go wrong with a file system, as one clear line."""

import contextlib
import urllib.parse
from collections.abc import Iterator, Sequence

from seit_ray.storage.causes import CAUSES


class StorageError(ValueError):
    """A failed storage operation, as one line for the user.

    kind: 'missing', 'too_large', 'changed', 'archived' and 'refused' (by the server of an https:// address) are about
    the object; 'unavailable' may pass (network, throttling); 'denied', 'credentials', 'full' and 'invalid' are about
    the set-up. Only the first five may count as a bad image, and 'denied' where the same rights read other images.
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
        if cause in CAUSES:
            kind, wrong, expected, mend = CAUSES[cause]
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
    """Keys of CAUSES, the most precise first."""
    link: BaseException | None = error
    while link is not None:
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            yield response.get("Error", {}).get("Code")
            yield str(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        code = getattr(link, "error_code", None)  # of Azure: an enum, or a text where it is a new one
        if code is not None:
            yield str(getattr(code, "value", code))
            yield str(getattr(link, "status_code", None))
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


def explained_each(contents: Sequence[bytes | Exception], uris: Sequence[str]) -> list[bytes | StorageError]:
    """Contents, or what is wrong with each of these uris."""
    return [
        explain(content, uri) if isinstance(content, Exception) else content
        for content, uri in zip(contents, uris, strict=True)
    ]
