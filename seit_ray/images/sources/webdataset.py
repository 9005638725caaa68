"""Images in WebDataset tars: <key>.jpg beside <key>.cls, <key>.json and more.

Listing reads headers and labels and skips the images; fetching reads stretches of a tar that hold many images. The key
of an image is the tar and the path in it: tars of one class each often number their images alike.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from seit_ray.images.records import missing_column, unusable
from seit_ray.images.sources.columns import LabelError, cell_key, checked_label, text_label
from seit_ray.images.sources.division import MAY_REPEAT, Division, File, Piece, Seen, Tally
from seit_ray.images.sources.names import kind_of, one_form, suffix_of
from seit_ray.images.sources.settings import Columns, SourceSettings
from seit_ray.images.sources.splits import splits_of_files
from seit_ray.images.sources.tars import MAX_LABEL_BYTES, DamagedTarError, Member, check_uncompressed, tar_members
from seit_ray.storage import Entry, Folder, StorageError

LONG_SAMPLE = 256  # members; longer runs are names with dots of their own, and are not held till their end


def files_in(source: Folder, entries: Iterable[Entry], settings: SourceSettings, left_out: Counter[str]) -> list[File]:
    """All tars of a folder, with the split of each."""
    versions = {}
    for entry in entries:
        check_uncompressed(source, entry.name)
        if settings.takes_file(entry.name, left_out):
            versions[entry.name] = entry.version
    splits = splits_of_files(versions, source.uri, find_splits=settings.find_splits)
    return [File(name, versions[name], split) for name, split in splits.items()]


def seen(division: Division, piece: Piece, tally: Tally) -> Iterator[Seen]:
    """The images of some tars, one after the other."""
    for file in piece.files:
        yield from seen_in_tar(division.folder, file, division.settings, tally.left_out)


def seen_in_tar(folder: Folder, file: File, settings: SourceSettings, left_out: Counter[str]) -> Iterator[Seen]:
    """The images of one tar, in its order; counts samples without an image.

    A sample's image is the member with the extension `image_column`, or under the default name the first with an image
    suffix; its label is the member with the extension `label_column` or that field of .json, or under the default name
    .cls, else the field of .json, else none. An image whose label cannot be read is a record that cannot be read, with
    the reason: nobody mends a tar in its place. Of a broken tar the whole members are listed, and what else it held is
    one such record.
    """
    name, version, split = file
    uri, columns, suffixes = folder.uri_of(name), settings.columns, settings.image_suffixes
    extension = "cls" if columns.label == Columns.label else columns.label.lower()
    members = tar_members(folder, name, {"json", extension.rpartition(".")[2]}, left_out, version or None)
    fault: list[str] = []
    for sample in samples_of(_until_damaged(members, fault)):
        found = images_of(sample, columns.image, suffixes)
        used = {image.name for image, _ in found}
        left_out.update(
            kind_of(m.name) for m in sample if m.name not in used and (not found or suffix_of(m.name) in suffixes)
        )
        for image, texts in found:
            where, named = f"{uri}#{image.key}", f"{name}#{image.name}"
            label, address = None, f"{uri}#{image.offset}:{image.size}"
            try:
                if columns.key:
                    named = cell_key(_json_of(texts, where).get(columns.key), where)
                label = label_of(texts, columns.label, where)
            except LabelError as error:
                address = unusable(str(error))
            yield Seen(one_form(named), address, label, split, image.size, version, of_key=MAY_REPEAT)
    for reason in fault:
        rest = unusable(f"{reason}; this stands for all that it held beyond")
        yield Seen(f"{one_form(name)}#rest", rest, None, split, 0, version, of_key=MAY_REPEAT)


def _until_damaged(members: Iterator[Member], fault: list[str]) -> Iterator[Member]:
    """The members before a tar breaks, or goes away; the reason is added to fault."""
    try:
        yield from members
    except DamagedTarError as error:
        fault.append(str(error))
    except StorageError as error:
        if error.kind != "missing":
            raise
        fault.append(str(error))


def samples_of(members: Iterator[Member]) -> Iterator[list[Member]]:
    """Runs of members of one key; an extension that comes again begins another sample."""
    sample: list[Member] = []
    extensions: set[str] = set()
    for member in members:
        ends = sample and (member.key != sample[0].key or member.extension in extensions)
        if ends or (len(sample) >= LONG_SAMPLE and _stem(member) != _stem(sample[-1])):
            yield sample
            sample, extensions = [], set()
        sample.append(member)
        extensions.add(member.extension)
    if sample:
        yield sample


def images_of(
    sample: Sequence[Member], column: str, suffixes: Collection[str]
) -> list[tuple[Member, dict[str, bytes]]]:
    """The images of a sample, each with the texts that are told of it: extension -> content.

    One, where an extension has no dot of its own (jpg before seg.png). Where none is so, the names have dots: of
    foo.v1.jpg, foo.v1.cls, foo.v2.jpg, foo.v2.cls each is an image with a label of its own.
    """
    texts = {m.extension: m.content for m in sample}
    wanted = column.lower()
    is_default = column == Columns.image
    if is_default:
        dotted = [m for m in sample if suffix_of(m.name) in suffixes]
        plain = [m for m in dotted if "." not in m.extension]
    else:
        dotted = [m for m in sample if m.extension.endswith(f".{wanted}")]
        plain = [m for m in sample if m.extension == wanted]
    if plain:
        return [(plain[0], texts)]
    found: dict[str, Member] = {}
    for member in dotted:  # of one name the first suffix counts
        found.setdefault(_stem(member), member)
    own: dict[str, dict[str, bytes]] = {stem: {} for stem in found}
    for member in sample:
        own.get(_stem(member), {})[member.suffix] = member.content
    return [(image, {**texts, **own[stem]}) for stem, image in found.items()]


def _stem(member: Member) -> str:
    return posixpath.splitext(member.name)[0]


def _read(read: Callable[[bytes], Any], text: bytes, where: str) -> Any:
    """read(text), a text of a sample; LabelError for what it cannot read, or is too long."""
    try:
        if len(text) > MAX_LABEL_BYTES:
            raise ValueError(f"of more than {MAX_LABEL_BYTES} bytes")
        return read(text)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"label of {where} cannot be read ({error}); expected UTF-8, or JSON; mend it") from error


def _json_of(texts: dict[str, bytes], where: str) -> dict[str, Any]:
    """The fields of a sample's .json; none where it is absent, or no mapping."""
    values = _read(json.loads, texts.get("json") or b"{}", where)
    return values if isinstance(values, dict) else {}


def label_of(texts: dict[str, bytes], column: str, where: str) -> str | int | None:
    """A sample's label; LabelError when it is of no use, ValueError for a column that was asked for and is absent."""
    is_default = column == Columns.label
    extension = "cls" if is_default else column.lower()
    if extension in texts and extension != "json":
        return text_label(_read(bytes.decode, texts[extension], where).strip())
    values = _json_of(texts, where)
    if column not in values and not is_default:
        raise missing_column(column, where, [*texts, *values], "label_column")
    return checked_label(values.get(column), where)
