"""A folder in object storage or on disk, and what an uri means."""

from __future__ import annotations

import io
import os
import posixpath
import re
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Sequence

from seit_ray.storage.contract import Access, ObjectStore
from seit_ray.storage.entry import Entry
from seit_ray.storage.errors import StorageError, explain, explained
from seit_ray.storage.local import LocalStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


class Folder:
    """A folder at an s3:// uri, a file:// uri or a local path; cheap to make, safe to pickle and in threads.

    What is not given (endpoint, region, keys) comes from the AWS_* variables and profiles of the process that
    uses it. Every operation raises StorageError, one line that names the uri and how to mend it.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        anonymous: bool = False,
    ):
        if bool(access_key_id) != bool(secret_access_key):
            raise StorageError(
                "credentials with only one of access_key_id and secret_access_key; "
                "expected both or neither; give the other one"
            )
        if anonymous and access_key_id:
            raise StorageError("anonymous with an access key; expected one of them; drop the other")
        self.uri = normalise_uri(uri)
        self._options: Access = {
            "endpoint_url": endpoint_url,
            "region": region,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
            "session_token": session_token,
            "anonymous": anonymous,
        }

    @property
    def is_remote(self) -> bool:
        """Whether it lies in object storage."""
        return self.uri.startswith("s3://")

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def at(self, uri: str) -> Folder:
        """The folder at another uri, with the same credentials."""
        return Folder(uri, **self._options)

    def join(self, *names: str) -> Folder:
        """The folder below this one."""
        return self.at(self.uri_of("/".join(names)))

    def uri_of(self, name: str) -> str:
        """The absolute uri of an object in this folder; name '' is the folder itself."""
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri

    def resolve(self, uri: str) -> str:
        """The absolute form of an uri written in a file of this folder: relative ones start at the folder."""
        if _SCHEME.match(uri) or uri.startswith("/"):
            return normalise_uri(uri)
        if not self.is_remote:
            return normalise_uri(os.path.join(self.uri, uri))
        if not {".", ".."}.intersection(uri.split("/")):
            return self.uri_of(uri)
        bucket, _, key = self._path.partition("/")
        return f"s3://{bucket}{posixpath.normpath(f'/{key}/{uri}')}"

    def read(self, name: str) -> bytes:
        """All bytes of one object."""
        content = self.read_many([name])[0]
        if isinstance(content, Exception):
            raise content
        return content

    def read_many(
        self, names: Sequence[str], *, max_bytes: int | None = None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | StorageError]:
        """Contents in the order of names, on S3 fetched at once; a StorageError in place of what fails.

        versions: those that were listed (None: not known); what is of another one fails with kind 'changed'.
        """
        return self._read_paths(names, [self._path_of(name) for name in names], max_bytes, versions)

    def _read_paths(
        self, names: Sequence[str], paths: Sequence[str], max_bytes: int | None, versions: Sequence[str | None] | None
    ) -> list[bytes | StorageError]:
        with explained(self.uri):
            contents = self._store().read_many(paths, max_bytes, versions)
        return [
            explain(content, self.uri_of(name)) if isinstance(content, Exception) else content
            for name, content in zip(names, contents, strict=True)
        ]

    def read_uris(
        self, uris: Sequence[str], *, max_bytes: int | None = None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | StorageError]:
        """As read_many, for absolute uris anywhere, with the credentials of this folder."""
        known = versions or [None] * len(uris)
        places = [(*_split_root(uri), version) for uri, version in zip(uris, known, strict=True)]
        contents: dict[tuple[str, str, str | None], bytes | StorageError] = {}
        roots: dict[str, list[tuple[str, str | None]]] = {}
        for root, name, version in dict.fromkeys(places):
            if name:
                roots.setdefault(root, []).append((name, version))
            else:
                message = f"uri {root}; expected that of an object; correct it"
                contents[root, name, version] = StorageError(message, "missing")
        for root, wanted in roots.items():
            names, of_names = [name for name, _ in wanted], [version for _, version in wanted]
            folder = self.at(root)
            paths = [f"{folder._path.rstrip('/')}/{name}" for name in names]  # a key of S3 may begin with a slash
            found = folder._read_paths(names, paths, max_bytes, of_names)
            contents.update(zip([(root, *place) for place in wanted], found, strict=True))
        return [contents[place] for place in places]

    def open(self, name: str) -> io.BufferedReader:
        """A binary, seekable file for reading parts of an object; close it, or use it in a with statement."""
        with explained(self.uri_of(name)):
            return self._store().open(self._path_of(name))

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces one object in one step: readers see the old bytes or the new, never a part."""
        with explained(self.uri_of(name)):
            self._store().write(self._path_of(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes one object unless there is one of this name; whether it was written. Of several writers one wins.

        data must differ between writers: on S3 the object is read back after a pause of 2 s, to see whose it is.
        """
        with explained(self.uri_of(name)):
            return self._store().create(self._path_of(name), data)

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name; a folder is none."""
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """Bytes of the object; None when there is none."""
        with explained(self.uri_of(name)):
            return self._store().size(self._path_of(name))

    def version(self, name: str) -> str | None:
        """What `Entry.version` of the object would be now; None when there is none."""
        with explained(self.uri_of(name)):
            return self._store().version(self._path_of(name))

    def list_folders(self) -> list[str]:
        """Names of the folders directly below, sorted by bytes; hidden ones left out; empty if missing."""
        with explained(self.uri):
            return self._store().list_folders(self._path)

    def list(
        self, prefix: str = "", *, include_hidden: bool = False, on_skipped: Callable[[str], None] | None = None
    ) -> Iterator[Entry]:
        """Objects at any depth whose relative name starts with prefix, by bytes of the name; none if missing.

        Names with a part that starts with '.' or '_' are left out, unless the prefix spells that part out.
        on_skipped: told why, for each file that cannot be listed (it vanished, its name is not UTF-8); without it such
        a file is an error.
        """
        with explained(self.uri):
            yield from self._store().list(self._path, prefix, include_hidden, on_skipped)

    def delete(self, name: str) -> None:
        """Removes one object; no error when there is none."""
        with explained(self.uri_of(name)):
            self._store().delete(self._path_of(name))

    def delete_tree(self, name: str = "") -> None:
        """Removes the folder of this name, or this folder, with all in it; no error when there is none."""
        path = self._path_of(name) if name else self._path
        if not posixpath.dirname(path).strip("/") and (self.is_remote or path == "/"):
            raise StorageError(f"delete_tree {self.uri_of(name)}; expected a folder in it; empty it by hand")
        with explained(self.uri_of(name)):
            self._store().delete_tree(path)

    def check_readable(self) -> None:
        """Raises StorageError, within seconds, unless this is a folder or an object that can be read."""
        with explained(self.uri):
            self._store(patient=False).check_readable(self._path)

    def check_writable(self) -> None:
        """Raises StorageError, within seconds, unless an object can be written here and removed again."""
        path = self._path_of(f".write-check-{uuid.uuid4().hex}")
        with explained(self.uri):
            store = self._store(patient=False)
            store.write(path, b"write check")
            store.delete(path)

    @property
    def _path(self) -> str:
        return self.uri.removeprefix("s3://")

    def _path_of(self, name: str) -> str:
        if not name or name.startswith("/"):
            raise StorageError(f"name {name!r} in {self.uri}; expected a relative name; use split_uri")
        return f"{self._path.rstrip('/')}/{name}"

    def _store(self, *, patient: bool = True) -> ObjectStore:
        if not self.is_remote:
            return LocalStore()
        from seit_ray.storage import s3  # half a second to import, and needed for s3:// alone

        return s3.connect(self._options, patient=patient)


def normalise_uri(uri: str | os.PathLike[str]) -> str:
    """s3://bucket/key without trailing slash, or an absolute local path; StorageError for other schemes."""
    text = os.fspath(uri)
    if not text:
        raise StorageError("uri ''; expected s3://BUCKET/PATH or a local path; give one")
    match = _SCHEME.match(text)
    if match is None:
        return _absolute(os.path.expanduser(text))
    scheme, rest = match[1].lower(), match[2]
    if scheme in ("s3", "s3a") and rest.strip("/") and not rest.startswith("/"):
        return "s3://" + rest.rstrip("/")
    if scheme == "file" and rest.removeprefix("localhost").startswith("/"):
        return _absolute(urllib.parse.unquote(rest.removeprefix("localhost")))
    raise StorageError(
        f"uri {text}; expected s3://BUCKET/PATH, file:///PATH or a local path; correct it, or reach "
        "other stores through their S3 endpoint (endpoint_url)"
    )


def _absolute(path: str) -> str:
    return "/" + os.path.abspath(path).lstrip("/")  # abspath keeps two slashes at the start


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """(uri of the folder, name of the object in it); the name of a bucket alone is ''."""
    text = normalise_uri(uri)
    if text.startswith("s3://") and "/" not in text[5:]:
        return text, ""
    folder, _, name = text.rpartition("/")
    return folder or "/", name


def _split_root(uri: str) -> tuple[str, str]:
    """(bucket or local root, path below it) of a normalised uri: one read_many then serves many folders."""
    if uri.startswith("s3://"):
        bucket, _, key = uri[5:].partition("/")
        return f"s3://{bucket}", key
    return "/", uri.lstrip("/")
