"""Images in WebDataset tars: <key>.jpg beside <key>.cls, <key>.json and more, or <key>.seg.png for label maps.

Listing reads headers and labels and skips the images; fetching reads stretches of a tar that hold many images. The key
of an image is the tar and the path in it: tars of one class each often number their images alike.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from seit_ray.images.records import missing_column, no_map, unusable
from seit_ray.images.sources.columns import LabelError, cell_key, checked_label, text_label
from seit_ray.images.sources.division import MAY_REPEAT, Division, File, Piece, Seen, Tally
from seit_ray.images.sources.faults import rest_of, until_fault
from seit_ray.images.sources.names import kind_of, one_form, suffix_of
from seit_ray.images.sources.pairing import AGAIN, WITHOUT
from seit_ray.images.sources.settings import Columns, SourceSettings
from seit_ray.images.sources.splits import splits_of_files
from seit_ray.images.sources.tars import MAX_LABEL_BYTES, Member, check_uncompressed, tar_members
from seit_ray.storage import Entry, Folder

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
        yield from seen_in_tar(division, file, tally.left_out)


def seen_in_tar(division: Division, file: File, left_out: Counter[str]) -> Iterator[Seen]:
    """The images of one tar, in its order; counts samples without an image.

    A sample's image is the member with the extension `image_column`, or under the default name the first with an image
    suffix; its label is the member with the extension `label_column` or that field of .json, or under the default name
    .cls, else the field of .json, else none. In a source of pairs it has a label map instead, the member with the
    extension `mask_column`, or seg.png or mask.png. An image whose label cannot be read is a record that cannot be
    read, with the reason: nobody mends a tar in its place. Of a broken tar the whole members are listed, and what else
    it held is one such record.
    """
    folder, settings = division.folder, division.settings
    uri, asked = folder.uri_of(file.name), Asked(settings.columns, settings.image_suffixes, settings.map_extensions)
    members = tar_members(folder, file.name, texts_of(asked.columns), left_out, file.version or None)
    fault: list[str] = []
    before: set[str] = set()
    for sample, behind in with_next(samples_of(until_fault(members, division, fault), asked.extensions)):
        yield from seen_in_sample(sample, uri, file, asked, left_out, before | names_of(behind))
        before = names_of(sample)
    yield from rest_of(file, division, fault)


class Asked(NamedTuple):
    """What is looked for in tars: columns, suffixes of images, extensions of label maps (() for none)."""

    columns: Columns
    suffixes: frozenset[str]
    extensions: tuple[str, ...]


def seen_in_sample(
    sample: Sequence[Member], uri: str, file: File, asked: Asked, left_out: Counter[str], beside: Collection[str]
) -> list[Seen]:
    """The images of a sample of a tar at this uri. beside: names in the samples before and behind it."""
    (columns, suffixes, extensions), seen = asked, list[Seen]()
    maps = {m.name: m for m in sample if map_stem(m, extensions) is not None} if extensions else {}
    found = images_of([m for m in sample if m.name not in maps] if maps else sample, columns.image, suffixes)
    used = {image.name for image, _ in found}
    for image, texts in found:
        where, key, address = f"{uri}#{image.key}", f"{file.name}#{image.name}", span_of(uri, image)
        label = mask = None
        try:
            if columns.key:
                key = cell_key(_json_of(texts, where).get(columns.key), where)
            label = label_of(texts, columns.label, where) if columns.label else None
        except LabelError as error:
            address = unusable(str(error))
        if extensions:
            own = maps_of(image, maps.values(), extensions, is_alone=len(found) == 1)
            used.update(member.name for member in own)
            mask = span_of(uri, own[0]) if len(own) == 1 else no_map(_why_none(image, own, extensions))
        version = None if mask is None else file.version
        place = (image.size, file.version, None, MAY_REPEAT)
        seen.append(Seen(one_form(key), address, label, file.split, *place, mask, version))
    left_out.update(kinds_left(sample, used, maps, suffixes, beside, is_empty=not found))
    return seen


def texts_of(columns: Columns) -> set[str]:
    """The suffixes of the members that are read while a tar is listed."""
    if not columns.label:  # in a source of pairs
        return {"json"} if columns.key else set()
    extension = "cls" if columns.label == Columns.label else columns.label.lower()
    return {"json", extension.rpartition(".")[2]}


def span_of(uri: str, member: Member) -> str:
    """The address of a member of a tar."""
    return f"{uri}#{member.offset}:{member.size}"


def kinds_left(
    sample: Sequence[Member],
    used: Collection[str],
    maps: Collection[str],
    suffixes: Collection[str],
    beside: Collection[str],
    *,
    is_empty: bool,
) -> Iterator[str]:
    """As what the members of a sample that nobody uses are counted; is_empty: whether it has no image."""
    for member in sample:
        if member.name in maps:
            if member.name not in used:
                yield AGAIN if member.name in beside else WITHOUT
        elif member.name not in used and (is_empty or suffix_of(member.name) in suffixes):
            yield kind_of(member.name)


def map_stem(member: Member, extensions: Collection[str]) -> str | None:
    """The name of the image that a label map is of, without its suffix; None for what is no label map."""
    for extension in extensions:
        if member.extension == extension or member.extension.endswith(f".{extension}"):
            return member.name[: -len(extension) - 1]
    return None


def maps_of(image: Member, maps: Collection[Member], extensions: Collection[str], *, is_alone: bool) -> list[Member]:
    """The label maps of an image; of the only image of a sample also those with the key alone before the extension."""
    for stem in (_stem(image), image.key) if is_alone else (_stem(image),):
        if found := [member for member in maps if map_stem(member, extensions) == stem]:
            return found
    return []


def _why_none(image: Member, own: Sequence[Member], extensions: Collection[str]) -> str:
    """Why an image has no label map: there is none, or more than one."""
    if not own:
        return f"there is no {' or '.join(f'{_stem(image)}.{extension}' for extension in extensions)}"
    names = " and ".join(member.name for member in own)
    return f"there are {names}; expected one; set source.mask_column to the extension of those that are meant"


def samples_of(members: Iterator[Member], of_maps: Collection[str] = ()) -> Iterator[list[Member]]:
    """Runs of members of one key; an extension that comes again begins another sample. of_maps: extensions of maps."""
    sample: list[Member] = []
    extensions: set[str] = set()
    for member in members:
        ends = sample and (member.key != sample[0].key or member.extension in extensions)
        if ends or (len(sample) >= LONG_SAMPLE and _stem(member, of_maps) != _stem(sample[-1], of_maps)):
            yield sample
            sample, extensions = [], set()
        sample.append(member)
        extensions.add(member.extension)
    if sample:
        yield sample


def with_next(samples: Iterator[list[Member]]) -> Iterator[tuple[list[Member], list[Member]]]:
    """Each sample with the next one, which is empty behind the last."""
    sample = next(samples, None)
    while sample is not None:
        behind = next(samples, None)
        yield sample, behind or []
        sample = behind


def names_of(sample: Sequence[Member]) -> set[str]:
    """Of all members."""
    return {member.name for member in sample}


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


def _stem(member: Member, of_maps: Collection[str] = ()) -> str:
    return map_stem(member, of_maps) or posixpath.splitext(member.name)[0]


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
