"""A folder in object storage or on disk."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Sequence

from seit_ray.storage.contract import Access, ObjectStore
from seit_ray.storage.entry import WHOLE, Entries, Entry, Stretch
from seit_ray.storage.errors import StorageError, explained, explained_each
from seit_ray.storage.local import folders_missing
from seit_ray.storage.servers import named_server_of, server_of
from seit_ray.storage.uris import (
    CLOUDS,
    SCHEME,
    is_remote,
    normalise_address,
    normalise_uri,
    path_of,
    reader_at,
    shown,
    split_root,
    split_uri,
    store_at,
)

CONNECTIONS = 64
PROBE, PROBED = ".write-check-", b"write check"  # what `check_writable` writes: how its name begins, and what it holds


class Folder:
    """A folder at an s3://, gs:// or az:// uri, or a local path; cheap to make, safe to pickle and in threads.

    What is not given (endpoint, region, keys, account) comes from the variables and profiles of the process that uses
    it. Every operation raises StorageError, one line that names the uri and how to mend it.
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
        account: str | None = None,
        anonymous: bool = False,
        requester_pays: bool = False,
        connections: int = CONNECTIONS,
        private_addresses: bool = False,
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
            "account": account,
            "anonymous": anonymous,
            "requester_pays": requester_pays,
            "connections": connections,
            "private_addresses": private_addresses,
        }

    @property
    def is_remote(self) -> bool:
        """Whether it lies in object storage."""
        return is_remote(self.uri)

    @property
    def version_columns(self) -> tuple[str, ...]:
        """What a list of objects, as clouds make them, may call the column of `Entry.version`; none on a disk."""
        return CLOUDS[self.uri.partition("://")[0]].versions if self.is_remote else ()

    @property
    def server(self) -> list[str]:
        """What beside the uri says where it lies: endpoint and account, given or by variables, without keys to them."""
        return server_of(self.uri, self._options)

    @property
    def named_server(self) -> str:
        """The endpoint and account that are named, by options or variables alike, without keys to them; '' for none."""
        return named_server_of(self.uri, self._options)

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
        """The absolute form of an address written in a file of this folder: relative ones start at the folder."""
        if SCHEME.match(uri) or uri.startswith("/"):
            return normalise_address(uri)
        if not self.is_remote:
            return normalise_uri(os.path.join(self.uri, uri))
        if not {".", ".."}.intersection(uri.split("/")):
            return self.uri_of(uri)
        scheme, _, path = self.uri.partition("://")
        bucket, _, key = path.partition("/")
        return f"{scheme}://{bucket}{posixpath.normpath(f'/{key}/{uri}')}"

    def read(self, name: str) -> bytes:
        """All bytes of one object."""
        content = self.read_many([name])[0]
        if isinstance(content, Exception):
            raise content
        return content

    def read_many(
        self, names: Sequence[str], *, max_bytes: int | None = None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | StorageError]:
        """Contents in the order of names, of buckets fetched at once; a StorageError in place of what fails.

        versions: those that were listed (None: not known); what is of another one fails with kind 'changed'.
        """
        with explained(self.uri):
            contents = self._store().read_many([self._path_of(name) for name in names], max_bytes, versions)
        return explained_each(contents, [self.uri_of(name) for name in names])

    def read_uris(
        self, uris: Sequence[str], *, max_bytes: int | None = None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | StorageError]:
        """As read_many, for absolute uris and https:// addresses anywhere, with the credentials of this folder."""
        places = list(zip(uris, versions or [None] * len(uris), strict=True))
        contents: dict[tuple[str, str | None], bytes | StorageError] = {}
        roots: dict[str, list[tuple[str, str | None]]] = {}
        for uri, version in dict.fromkeys(places):
            root, name = split_root(uri)
            if name:
                roots.setdefault(root, []).append((uri, version))
            else:
                contents[uri, version] = StorageError(f"uri {uri}; expected that of an object; correct it", "missing")
        for root, wanted in roots.items():
            paths, of_paths = [path_of(uri) for uri, _ in wanted], [version for _, version in wanted]
            with explained(root):
                found = reader_at(root, self._options).read_many(paths, max_bytes, of_paths)
            contents.update(zip(wanted, explained_each(found, [shown(uri) for uri, _ in wanted]), strict=True))
        return [contents[place] for place in places]

    def open(self, name: str, version: str | None = None) -> io.BufferedReader:
        """A binary, seekable file for reading parts of an object; close it, or use it in a with statement.

        version: the one that was listed; StorageError of kind 'changed' when it is another. In a bucket, whatever
        is read comes from the version that was opened.
        """
        with explained(self.uri_of(name)):
            return self._store().open(self._path_of(name), version)

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces one object in one step: readers see the old bytes or the new, never a part."""
        with explained(self.uri_of(name)):
            self._store().write(self._path_of(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes one object unless there is one of this name; whether it was written. Of several writers one wins.

        data must differ between writers: of S3 the object is read back after a pause of 2 s, to see whose it is.
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

    def state_of(self, uri: str) -> tuple[int | None, str | None]:
        """(size, version) of an object anywhere, with the credentials of this folder; Nones when there is none."""
        place, name = split_uri(uri)
        folder = self.at(place)
        return folder.size(name), folder.version(name)

    def list_folders(self) -> list[str]:
        """Names of the folders directly below, sorted by bytes; hidden ones left out; empty if missing."""
        with explained(self.uri):
            return self._store().list_folders(self._path)

    def list(
        self,
        prefix: str = "",
        *,
        include_hidden: bool = False,
        on_skipped: Callable[[str], None] | None = None,
        stretch: Stretch = WHOLE,
    ) -> Iterator[Entry]:
        """Objects at any depth whose relative name starts with prefix, by bytes of the name; none if missing.

        Names with a part that starts with '.' or '_' are left out, unless the prefix spells that part out.
        on_skipped: told why, for each file that cannot be listed (it vanished, its name is not UTF-8); without it such
        a file is an error. stretch: (name behind which to begin, last name or None); see `cuts`.
        """
        with explained(self.uri):
            yield from self._store().list(self._path, prefix, include_hidden, on_skipped, stretch)

    def list_some(
        self, *, on_skipped: Callable[[str], None] | None = None, stretch: Stretch = WHOLE
    ) -> Iterator[Entries]:
        """As `list`, hidden ones too, some at a time."""
        with explained(self.uri):
            yield from self._store().list_some(self._path, on_skipped, stretch)

    def cuts(self, after: str, most: int, listed: int = 0) -> Sequence[str] | None:
        """At most `most` names, ascending, between which what lies behind `after` can be listed at the same time.

        None where the service lists in an order of its own, and knows no stretches. listed: how many objects lie up to
        `after`, where that is known: few names serve where few more are to be expected.
        """
        with explained(self.uri):
            return self._store().cuts(self._path, after, most, listed)

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
        path = self._path_of(f"{PROBE}{uuid.uuid4().hex}")
        made = [] if self.is_remote else folders_missing(os.path.dirname(path))
        with explained(self.uri):
            store = self._store(patient=False)
            store.write(path, PROBED)
            store.delete(path)
        for folder in made:
            with contextlib.suppress(OSError):  # another has put something there meanwhile
                os.rmdir(folder)

    @property
    def _path(self) -> str:
        return path_of(self.uri)

    def _path_of(self, name: str) -> str:
        if not name or name.startswith("/"):
            raise StorageError(f"name {name!r} in {self.uri}; expected a relative name; use split_uri")
        return f"{self._path.rstrip('/')}/{name}"

    def _store(self, *, patient: bool = True) -> ObjectStore:
        return store_at(self.uri, self._options, patient=patient)
