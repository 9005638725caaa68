"""Tars, read where they lie: their members, and the bytes of some of them; never unpacked."""

from __future__ import annotations

import io
import itertools
import posixpath
import re
import tarfile
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, cast

from seit_ray.images.formats import ImageError
from seit_ray.images.sources.faults import BrokenFileError
from seit_ray.images.sources.names import is_hidden
from seit_ray.storage import Folder, StorageError, split_uri

ADDRESS = re.compile(r"(.*\.tar)#(\d+):(\d+)", re.IGNORECASE | re.DOTALL)  # tar, offset and size of an image in it
COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
MAX_HEADER_BYTES = 1 << 20  # of the extended headers of a member, which tarfile reads whole
MAX_LABEL_BYTES = 1 << 20
MAX_GAP_BYTES = 64 << 10  # headers and labels between two images: cheaper to read than another request is
MAX_STRETCH_BYTES = 8 << 20
END_BYTES = 2 * tarfile.RECORDSIZE  # behind the last member: two blocks of zeros, filled up to a record
NOT_UTF8 = "name in a tar that is not UTF-8"


class DamagedTarError(BrokenFileError):
    """A file that is no tar, or a broken one."""


class Member(NamedTuple):
    """A file in a tar: where its bytes lie, and what they are where they may hold a label."""

    name: str
    offset: int
    size: int
    content: bytes

    @property
    def key(self) -> str:
        """What the members of a sample share: the name up to the first dot of its last part."""
        folder, base = posixpath.split(self.name)
        return posixpath.join(folder, base.partition(".")[0])

    @property
    def extension(self) -> str:
        """What tells them apart: the rest of the name."""
        return posixpath.basename(self.name).partition(".")[2].lower()

    @property
    def suffix(self) -> str:
        """The last part of the extension, without its dot."""
        return self.extension.rpartition(".")[2]


class _Bounded:
    """A file for tarfile, which would read a header as long as its own size field says."""

    def __init__(self, file: io.BufferedReader):
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"a header of {size} bytes; at most {MAX_HEADER_BYTES} are read")
        return self.file.read(size)


def check_uncompressed(folder: Folder, name: str) -> None:
    """ValueError for the name of a compressed tar."""
    if COMPRESSED.search(name):
        raise ValueError(
            f"{folder.uri_of(name)} is compressed; expected .tar, of which parts can be read; decompress it (pictures "
            "hardly shrink anyway)"
        )


def tar_members(
    folder: Folder, name: str, texts: Collection[str], left_out: Counter[str], version: str | None = None
) -> Iterator[Member]:
    """The files of a tar but hidden ones, in order, with the content of those whose suffix is one of `texts`.

    version: as for `Folder.open`. Of a text the first MAX_LABEL_BYTES and one more. DamagedTarError, after the whole
    members, for a tar that is broken.
    """
    uri = folder.uri_of(name)
    with folder.open(name, version) as file:
        held: Member | None = None  # until it is known that its bytes are all there
        try:
            for info in _headers(file):
                if held is not None:
                    yield held
                held = member_of(file, info, texts) if _is_utf8(info.name) else None
                left_out.update([] if held is not None else [NOT_UTF8])
            if held is not None:
                yield held
                held = None
            check_end(file)
        except StorageError:
            raise
        except Exception as error:  # tarfile raises whatever a damaged file leads it to
            if held is not None and _is_whole(file, held):
                yield held
            raise DamagedTarError(
                f"{uri} cannot be read ({' '.join(str(error).split()) or type(error).__name__}); expected a whole tar, "
                "not compressed; write or copy it again"
            ) from error


def _headers(file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """The headers of the files in a tar but hidden ones; leaves the file at the end that tarfile saw."""
    end, bounded = 0, cast(Any, _Bounded(file))
    with tarfile.open(fileobj=bounded, mode="r:") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            if info.size < 0 or info.offset < end or info.issparse():
                raise tarfile.ReadError(f"member {info.name!r} of an impossible size or place")
            end = info.offset_data
            if info.isreg() and not is_hidden(posixpath.normpath(info.name)):
                yield info
        file.seek(tar.offset)


def _is_whole(file: io.BufferedReader, member: Member) -> bool:
    file.seek(member.offset + max(0, member.size - 1))
    return not member.size or bool(file.read(1))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def member_of(file: io.BufferedReader, info: tarfile.TarInfo, texts: Collection[str]) -> Member:
    """A member, read if it may hold a label; ReadError where the tar ends before it does."""
    member = Member(posixpath.normpath(info.name), info.offset_data, info.size, b"")
    if member.suffix not in texts:
        return member
    file.seek(info.offset_data)
    wanted = min(info.size, MAX_LABEL_BYTES + 1)  # more than a label has: whoever takes it for one will see
    content = file.read(wanted)
    if len(content) < wanted:
        raise tarfile.ReadError(f"cut off at byte {info.offset_data + len(content)}")
    return member._replace(content=content)


def check_end(file: io.BufferedReader) -> None:
    """ReadError unless a tar ends here: tarfile takes anything that is no header for the end."""
    offset = file.tell()
    tail = file.read(END_BYTES)
    if len(tail) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"cut off at byte {offset + len(tail)}, or without an end")
    if tail.strip(b"\0"):
        raise tarfile.ReadError(f"no header and no end at byte {offset}, or another tar behind this one")


def fetch_spans(
    source: Folder, uri: str, spans: Collection[tuple[int, int]], max_bytes: int, version: str | None = None
) -> dict[tuple[int, int], bytes | Exception]:
    """The bytes of (offset, size) in one tar, of this version; neighbours are read together.

    What the storage does not give of one place, a bad sector say, is a StorageError of the images there alone.
    """
    found: dict[tuple[int, int], bytes | Exception] = {}
    for offset, size in spans:
        if size > max_bytes:
            found[offset, size] = ImageError(f"size {size} bytes; expected at most {max_bytes}; raise max_image_mib")
    folder, name = split_uri(uri)
    runs, failed = deque(stretches(sorted(set(spans) - found.keys()))), 0
    with source.at(folder).open(name, version) as file:
        while runs:
            run = runs.popleft()
            try:
                found.update(_read_run(file, uri, run))
                failed = 0
            except StorageError as error:
                failed += 1
                if failed > 2:  # not one place of the tar
                    return {**dict.fromkeys(itertools.chain(run, *runs), error), **found}
                if len(run) > 1:
                    runs.extendleft([span] for span in reversed(run))
                else:
                    found[run[0]] = error
    return found


def _read_run(
    file: io.BufferedReader, uri: str, run: Sequence[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], bytes | ImageError]]:
    """Each of some (offset, size) near each other, with its bytes."""
    start, stop = run[0][0], max(offset + size for offset, size in run)
    file.seek(start)
    data = file.read(stop - start)
    for offset, size in run:
        image = data[offset - start : offset - start + size]
        yield (offset, size), image if len(image) == size else cut_off(uri, offset, size)


def stretches(spans: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Ascending (offset, size) in runs that are near each other and not too long together."""
    run: list[tuple[int, int]] = []
    stop = 0
    for offset, size in spans:
        too_long = run and max(stop, offset + size) - run[0][0] > MAX_STRETCH_BYTES
        if run and (too_long or offset - stop > MAX_GAP_BYTES):
            yield run
            run = []
        stop = max(stop, offset + size) if run else offset + size
        run.append((offset, size))
    if run:
        yield run


def cut_off(uri: str, offset: int, size: int) -> ImageError:
    """The error for a tar that ends too early."""
    return ImageError(f"{uri} ends before byte {offset + size}; expected the listed file; list the source again")
