"""Files on a local or mounted disk; paths are absolute."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from seit_ray.storage.entry import WHOLE, Entries, Entry, Stretch, is_hidden
from seit_ray.storage.errors import changed, explained, too_large
from seit_ray.storage.local_files import files_below, folders_to_cut_at, modified, sorted_names

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


MOST_READ = 1 << 20  # bytes at a time of a file that is not as long as it says
NAME_BYTES = 200  # of a file's name in that of a temporary one, which is longer: disks take 255


class LocalFile(io.FileIO):
    """A file for reading; its errors, which come late, are StorageErrors, as those of an object in a bucket."""

    def readinto(self, buffer: WriteableBuffer) -> int:
        with explained(str(self.name)):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with explained(str(self.name)):
            return super().readall()


class LocalStore:
    """The operations of a Folder on local paths; raises OSError, which the Folder explains."""

    def read_many(
        self, paths: Sequence[str], max_bytes: int | None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | Exception]:
        """Contents in the order of paths; an error takes the place of what cannot be read, or is of another version."""
        known = versions or [None] * len(paths)
        return [_read_or_error(path, max_bytes, version) for path, version in zip(paths, known, strict=True)]

    def open(self, path: str, version: str | None = None) -> io.BufferedReader:
        """A seekable binary file; an error when it is of another version."""
        with contextlib.ExitStack() as stack:
            file: io.BufferedReader = stack.enter_context(io.BufferedReader(LocalFile(path)))
            if version is not None and modified(os.fstat(file.fileno())) != version:
                raise changed(path)
            stack.pop_all()
            return file

    def write(self, path: str, data: bytes) -> None:
        """Replaces the file at path in one step, making its folder where needed."""
        with self._temporary(path, data) as temporary:
            os.replace(temporary, path)

    def create(self, path: str, data: bytes) -> bool:
        """Writes the file unless there is one, whole at once; whether it was written."""
        with self._temporary(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise
                return _create_without_links(path, data)
            return True

    @contextlib.contextmanager
    def _temporary(self, path: str, data: bytes) -> Iterator[str]:
        """A file of these bytes beside path, gone at the end."""
        # No fsync: a job writes thousands of small files, and syncing each would cost more than the work.
        # A killed process leaves the old file or the new one; only a power cut can lose a fresh one.
        folder = os.path.dirname(path)
        begun = os.fsencode(os.path.basename(path))[:NAME_BYTES].decode(errors="ignore")  # a character may be cut off
        temporary = os.path.join(folder, f".{begun}.{uuid.uuid4().hex}.tmp")
        try:
            with _new_file(temporary) as file:
                file.write(data)
            yield temporary
        finally:
            self.delete(temporary)

    def size(self, path: str) -> int | None:
        """Bytes of the file at path; None when there is none."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def version(self, path: str) -> str | None:
        """The time of change of the file at path; None when there is none."""
        try:
            return modified(os.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list_folders(self, root: str) -> list[str]:
        """Names of the folders directly below root, sorted; links to folders count."""
        try:
            names = sorted_names(root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((n[:-1] for n in names if n.endswith("/") and not is_hidden(n)), key=os.fsencode)

    def list(
        self,
        root: str,
        prefix: str,
        include_hidden: bool,
        on_skipped: Callable[[str], None] | None = None,
        stretch: Stretch = WHOLE,
    ) -> Iterator[Entry]:
        """Files below root whose relative name starts with prefix, in the order of S3 keys; none if missing."""
        return files_below(root, prefix, include_hidden, on_skipped, stretch)

    def list_some(
        self, root: str, on_skipped: Callable[[str], None] | None = None, stretch: Stretch = WHOLE
    ) -> Iterator[Entries]:
        """The files of a stretch below root, some at a time."""
        return Entries.some(files_below(root, "", True, on_skipped, stretch))

    def cuts(self, root: str, after: str, most: int, listed: int = 0) -> Sequence[str]:
        """Names of folders behind `after`, of the uppermost levels that have enough of them."""
        return folders_to_cut_at(root, after, most, listed)

    def delete(self, path: str) -> None:
        """Removes the file at path, if there is one."""
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return

    def delete_tree(self, path: str) -> None:
        """Removes the folder at path with all in it, if there is one; a link is removed, not followed."""
        if os.path.islink(path):
            self.delete(path)
            return
        while os.path.isdir(path):
            with contextlib.suppress(FileNotFoundError):  # another process tidies up too
                shutil.rmtree(path)

    def check_readable(self, path: str) -> None:
        """Raises OSError when nothing at path can be read."""
        if os.path.isdir(path):
            os.scandir(path).close()
        else:
            open(path, "rb").close()


def _new_file(path: str, attempts: int = 3) -> io.BufferedWriter:
    """A file that was not there, with its folder; again where another process that looked at it has tidied that up."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "xb")
    except FileNotFoundError:
        if attempts == 1:
            raise
    return _new_file(path, attempts - 1)


def folders_missing(path: str) -> list[str]:
    """The folder and those above it that are not there, the innermost first."""
    missing = []
    while path and not os.path.exists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _create_without_links(path: str, data: bytes) -> bool:
    """As `create`, on a file system without hard links; a reader may see a part of the bytes."""
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _read_or_error(path: str, max_bytes: int | None, version: str | None) -> bytes | Exception:
    # Four calls of the system in all: of small files they are most of the time, and each lets go of Python's lock.
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(file)
            if version is not None and modified(status) != version:
                return changed(path)
            if max_bytes is not None and status.st_size > max_bytes:
                return too_large(path, status.st_size, max_bytes)
            return _read_on(file, status.st_size)
        finally:
            os.close(file)
    except OSError as error:
        return error


def _read_on(file: int, size_bytes: int) -> bytes:
    """All bytes of an open file that had so many; of one that has grown or shrunk, those that are there now."""
    parts = [os.read(file, size_bytes + 1)]  # the end shows where fewer come than were asked for
    if len(parts[0]) == size_bytes:
        return parts[0]
    while part := os.read(file, MOST_READ):
        parts.append(part)
    return b"".join(parts)
