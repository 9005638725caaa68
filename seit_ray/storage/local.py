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
from datetime import UTC, datetime

from seit_ray.storage.cuts import ENOUGH, LEVELS, evenly
from seit_ray.storage.entry import WHOLE, Entry, Stretch, is_hidden
from seit_ray.storage.errors import StorageError, changed, too_large

Ancestors = frozenset[tuple[int, int]]  # (device, inode) of a folder and those above it


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
            file = stack.enter_context(open(path, "rb"))
            if version is not None and _modified(os.fstat(file.fileno())) != version:
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
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f".{os.path.basename(path)[:200]}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "xb") as file:
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
            return _modified(os.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list_folders(self, root: str) -> list[str]:
        """Names of the folders directly below root, sorted; links to folders count."""
        try:
            names = _sorted_names(root)
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
        """Files below root whose relative name starts with prefix, in the order of S3 keys; none if missing.

        Holds the names of one folder a level. Follows links; a link to a folder that contains it is left out.
        """
        start = prefix[: prefix.rfind("/") + 1]
        stack = [_open_folder(root, start, frozenset())]
        while stack:
            relative, names, ancestors = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                continue
            name = relative + name
            if not name.startswith(prefix) or not (include_hidden or not is_hidden(name, prefix)):
                continue
            if stretch != WHOLE and not _may_hold(name, stretch):
                continue
            if name.endswith("/"):
                stack.append(_open_folder(root, name, ancestors))
            elif (entry := _entry_or_skip(root, name, on_skipped)) is not None:
                yield entry

    def cuts(self, root: str, after: str, most: int) -> Sequence[str]:
        """Names of folders behind `after`, of the uppermost levels that have enough of them."""
        found: list[str] = []
        level = [""]
        for _ in range(LEVELS):
            names = [place + name for place in level for name in _open_folder(root, place, frozenset())[1]]
            level = [name for name in names if name.endswith("/")]
            found += level
            if len(found) >= ENOUGH or len(level) > most:
                break
        return evenly(sorted(name for name in found if name > after), most)

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


def _create_without_links(path: str, data: bytes) -> bool:
    """As `create`, on a file system without hard links; a reader may see a part of the bytes."""
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _read_or_error(path: str, max_bytes: int | None, version: str | None) -> bytes | Exception:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            size_bytes = status.st_size
            if version is not None and _modified(status) != version:
                return changed(path)
            if max_bytes is not None and size_bytes > max_bytes:
                return too_large(path, size_bytes, max_bytes)
            return file.read()
    except OSError as error:
        return error


def _open_folder(root: str, relative: str, ancestors: Ancestors) -> tuple[str, Iterator[str], Ancestors]:
    """(relative, its sorted names, it and those above); no names for a loop or a missing folder."""
    path = os.path.join(root, relative)
    try:
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        if not stat.S_ISDIR(status.st_mode) or identity in ancestors:
            return relative, iter(()), ancestors
        return relative, iter(_sorted_names(path)), ancestors | {identity}
    except FileNotFoundError:
        return relative, iter(()), ancestors


def _may_hold(name: str, stretch: Stretch) -> bool:
    """Whether a file is of a stretch, or a folder may hold one that is."""
    after, until = stretch
    is_behind = name > after or (name.endswith("/") and after.startswith(name))
    return is_behind and (until is None or name <= until)


def _sorted_names(path: str) -> list[str]:
    """Names in one folder, sorted as S3 sorts keys: by bytes, a folder with its '/'."""
    with os.scandir(path) as entries:
        names = [entry.name + "/" if _is_folder(entry) else entry.name for entry in entries]
    return sorted(names, key=os.fsencode)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entry_or_skip(root: str, name: str, on_skipped: Callable[[str], None] | None) -> Entry | None:
    """As `_entry`; what cannot be listed is told instead of raised, where somebody is told."""
    try:
        found = _entry(root, name)
        if found is None and on_skipped is not None:
            on_skipped("pipe, socket or device")
        return found
    except (StorageError, FileNotFoundError) as error:
        if on_skipped is None:
            raise
        on_skipped("vanished" if isinstance(error, FileNotFoundError) else "name that is not UTF-8")
        return None


def _modified(status: os.stat_result) -> str:
    return datetime.fromtimestamp(status.st_mtime, UTC).isoformat()


def _entry(root: str, name: str) -> Entry | None:
    """The file as an Entry; a broken link too, to fail when it is read; None for pipes and devices."""
    path = os.path.join(root, name)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise StorageError(f"file name {os.fsencode(path)!r}; expected UTF-8; rename the file") from error
    try:
        status = os.stat(path)
    except OSError:
        status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        return None
    return Entry(name, status.st_size, _modified(status))
