"""Images in WebDataset tars: <key>.jpg beside <key>.cls, <key>.json and more; read where they lie, never unpacked.

Listing reads headers and labels and skips the images; fetching reads stretches of a tar that hold many images.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
import tarfile
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from seit_ray.images.decode import ImageError
from seit_ray.images.records import SPLITS, FoundImages, ImageRecord, missing_column, splits_of
from seit_ray.images.sources.columns import checked_label, text_label
from seit_ray.images.sources.names import IMAGE_SUFFIXES, suffix_of
from seit_ray.images.sources.settings import Columns
from seit_ray.storage import Folder, StorageError, split_uri

ADDRESS = re.compile(r"(.*\.tar)#(\d+):(\d+)", re.IGNORECASE | re.DOTALL)  # tar, offset and size of an image in it
COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
MAX_LABEL_BYTES = 1 << 20
MAX_GAP_BYTES = 64 << 10  # headers and labels between two images: cheaper to read than another request is
MAX_STRETCH_BYTES = 8 << 20
END_BYTES = 2 * tarfile.RECORDSIZE  # behind the last member: two blocks of zeros, filled up to a record


class DamagedTarError(ValueError):
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


def tar_splits(folders: Collection[str], names: Collection[str]) -> dict[str, str | None]:
    """Name of each tar -> split: of the folder it is in, or a word of its name where every name has one; or none."""
    by_folder = splits_of(folders)
    words = {name: {w for w in re.split(r"[-_.]", posixpath.basename(name)) if w.lower() in SPLITS} for name in names}
    single = {name: next(iter(found)) for name, found in words.items() if len(found) == 1}
    by_word = splits_of(set(single.values())) if len(single) == len(words) else {}
    return {name: by_folder.get(name.partition("/")[0]) or by_word.get(single.get(name, "")) for name in names}


def check_uncompressed(folder: Folder, name: str) -> None:
    """ValueError for the name of a compressed tar."""
    if COMPRESSED.search(name):
        raise ValueError(
            f"{folder.uri_of(name)} is compressed; expected .tar, of which parts can be read; decompress it (pictures "
            "hardly shrink anyway)"
        )


def tar_records(
    folder: Folder, name: str, columns: Columns, split: str | None, suffixes: Collection[str]
) -> Iterator[ImageRecord]:
    """The images of one tar, in its order; samples without an image are left out.

    A sample's image is the member with the extension `columns.image`, or under the default name the first with an image
    suffix; its label is the member with the extension `columns.label` or that field of .json, or under the default name
    .cls, else the field of .json, else none. DamagedTarError, and ValueError for labels that are none.
    """
    uri = folder.uri_of(name)
    texts = {"json", "cls" if columns.label == Columns.label else columns.label.lower()}
    version = next((entry.version for entry in folder.list(name) if entry.name == name), None)
    repeats: dict[str, int] = {}
    for sample in samples_of(tar_members(folder, name, texts)):
        image = image_of(sample, columns.image, suffixes)
        if image is None:
            continue
        label = label_of(sample, columns.label, f"{uri}#{image.key}")
        repeats[image.name] = repeats.get(image.name, 0) + 1
        number = f"#{repeats[image.name]}" if repeats[image.name] > 1 else ""  # keys are unique, names need not be
        address = f"{uri}#{image.offset}:{image.size}"
        yield ImageRecord(f"{name}#{image.name}{number}", address, label, split, image.size, version)


def tar_members(folder: Folder, name: str, texts: Collection[str]) -> Iterator[Member]:
    """The files of a tar but hidden ones, in order, with the content of those with the extensions `texts`."""
    uri, end = folder.uri_of(name), 0
    with folder.open(name) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                    if info.size < 0 or info.offset < end or info.issparse():
                        raise tarfile.ReadError(f"member {info.name!r} of an impossible size or place")
                    end = info.offset_data
                    if info.isreg() and not is_hidden(info.name):
                        yield member_of(file, info, texts)
                check_end(file, tar.offset)
        except StorageError:
            raise
        except Exception as error:  # tarfile raises whatever a damaged file leads it to
            raise DamagedTarError(
                f"{uri} cannot be read ({' '.join(str(error).split()) or type(error).__name__}); expected a whole tar, "
                "not compressed; write or copy it again"
            ) from error


def is_hidden(name: str) -> bool:
    """Whether a member is what systems leave in tars beside the files."""
    return posixpath.basename(name).startswith(".") or "__MACOSX" in name.split("/")


def member_of(file: io.BufferedReader, info: tarfile.TarInfo, texts: Collection[str]) -> Member:
    """A member, read if it may hold a label."""
    info.name.encode()  # names that are not UTF-8 are an error
    member = Member(posixpath.normpath(info.name), info.offset_data, info.size, b"")
    if member.extension not in texts:
        return member
    if info.size > MAX_LABEL_BYTES:
        raise tarfile.ReadError(f"{info.name!r} of {info.size} bytes, more than a label has")
    file.seek(info.offset_data)
    return member._replace(content=file.read(info.size))


def check_end(file: io.BufferedReader, offset: int) -> None:
    """ReadError unless a tar ends at this offset: tarfile takes anything that is no header for the end."""
    file.seek(offset)
    tail = file.read(END_BYTES)
    if len(tail) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"cut off at byte {offset + len(tail)}, or without an end")
    if tail.strip(b"\0"):
        raise tarfile.ReadError(f"no header and no end at byte {offset}, or another tar behind this one")


def samples_of(members: Iterator[Member]) -> Iterator[list[Member]]:
    """Runs of members of one key; an extension that comes again begins another sample."""
    sample: list[Member] = []
    for member in members:
        if sample and (member.key != sample[0].key or member.extension in {m.extension for m in sample}):
            yield sample
            sample = []
        sample.append(member)
    if sample:
        yield sample


def image_of(sample: Sequence[Member], column: str, suffixes: Collection[str]) -> Member | None:
    """A sample's image; of several, one of a plain extension (jpg before seg.png), then the first."""
    if column != Columns.image:
        return next((m for m in sample if m.extension == column.lower()), None)
    images = [m for m in sample if posixpath.splitext(m.name)[1].lower() in suffixes]
    return min(images, key=lambda m: m.extension.count("."), default=None)


def label_of(sample: Sequence[Member], column: str, where: str) -> str | int | None:
    """A sample's label; ValueError when it is of no use, or a column that was asked for is not there."""
    texts = {m.extension: m.content for m in sample}
    is_default = column == Columns.label
    extension = "cls" if is_default else column.lower()
    try:
        if extension in texts and extension != "json":
            return text_label(texts[extension].decode().strip())
        values = json.loads(texts.get("json") or b"{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"label of {where} cannot be read ({error}); expected UTF-8, or JSON; mend it") from error
    values = values if isinstance(values, dict) else {}
    if column not in values and not is_default:
        raise missing_column(column, where, [*texts, *values], "label_column")
    return checked_label(values.get(column), where)


def fetch_spans(
    source: Folder, uri: str, spans: Collection[tuple[int, int]], max_bytes: int
) -> dict[tuple[int, int], bytes | ImageError]:
    """The bytes of (offset, size) in one tar; neighbours are read together."""
    found: dict[tuple[int, int], bytes | ImageError] = {}
    for offset, size in spans:
        if size > max_bytes:
            found[offset, size] = ImageError(f"size {size} bytes; expected at most {max_bytes}; raise max_bytes")
    folder, name = split_uri(uri)
    with source.at(folder).open(name) as file:
        for stretch in stretches(sorted(set(spans) - found.keys())):
            start, stop = stretch[0][0], max(offset + size for offset, size in stretch)
            file.seek(start)
            data = file.read(stop - start)
            for offset, size in stretch:
                image = data[offset - start : offset - start + size]
                found[offset, size] = image if len(image) == size else cut_off(uri, offset, size)
    return found


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


def found_in_folder(source: Folder, columns: Columns) -> FoundImages:
    """The images of all tars of a folder, with the split of each."""
    names = []
    for entry in source.list():
        check_uncompressed(source, entry.name)
        if suffix_of(entry.name) == ".tar":
            names.append(entry.name)
    return found_in_files(source, tar_splits(source.list_folders(), names), columns)


def found_in_files(folder: Folder, splits: dict[str, str | None], columns: Columns) -> FoundImages:
    """splits: file name -> split, in the order to read them."""

    def records() -> Iterator[ImageRecord]:
        for name, split in splits.items():
            yield from tar_records(folder, name, columns, split, IMAGE_SUFFIXES)

    return FoundImages("webdataset", None, records())
