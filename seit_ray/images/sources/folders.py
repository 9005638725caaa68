"""Image files in folders: the first folder below the root, or beside that of a split, is the class."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from seit_ray.images.sources.division import MAP, MAY_REPEAT, PLAIN, Division, Piece, Seen, SeenRun, Tally
from seit_ray.images.sources.inventory import inventory_entries, kept_slice
from seit_ray.images.sources.layout import layout_of_file, not_hidden, of_layout, some_files
from seit_ray.images.sources.names import is_hidden, none_is_hidden, one_form
from seit_ray.images.sources.settings import EXCLUDED
from seit_ray.images.sources.splits import FolderSplits, split_of_folder
from seit_ray.storage import Entries, Entry


def seen(division: Division, piece: Piece, tally: Tally, entries: Iterable[Entry] | None = None) -> Iterator[Seen]:
    """The image files of a stretch of names, in their order, and label maps; entries: what was listed of it already."""
    if piece.files:  # one image, which is the source itself
        entries = [Entry(file.name, division.folder.size(file.name) or 0, file.version or "") for file in piece.files]
    if entries is None:
        entries = not_hidden(itertools.chain.from_iterable(_listed(division, piece, tally)))
    splits = FolderSplits(tally, find_splits=division.settings.find_splits)
    return _one_by_one(division, entries, tally, splits)


def has_runs(division: Division, piece: Piece) -> bool:
    """Whether nothing has to be asked of each image of a piece."""
    settings = division.settings
    narrows = bool(settings.include or settings.exclude or settings.pairing)
    return division.kind in ("folders", "flat") and not piece.files and not narrows


def seen_by_runs(
    division: Division, piece: Piece, tally: Tally, known: Iterable[Entry] | None = None
) -> Iterator[Seen | SeenRun]:
    """As `seen`, many at a time wherever names are plain: ASCII, not hidden, and all of them images."""
    settings, is_weighed = division.settings, division.chosen in division.weighed
    splits, is_labelled = FolderSplits(tally, find_splits=settings.find_splits), settings.kind != "flat"
    for entries in _listed(division, piece, tally) if known is None else Entries.some(known):
        names, sizes, versions = entries.names, entries.sizes, entries.versions
        if not are_plain(names, settings.image_suffixes):
            yield from _one_by_one(division, not_hidden(entries), tally, splits)
            continue
        if is_weighed:
            tally.weigh_all(division.chosen, sizes)
        for start, stop in folder_runs(names):
            split, place, label = splits.of(names[start])
            columns = (names[start:stop], sizes[start:stop], [version or None for version in versions[start:stop]])
            yield SeenRun(*columns, label if is_labelled else None, split, place)


def are_plain(names: Sequence[str], suffixes: frozenset[str]) -> bool:
    """Whether all of some names are those of images, and none needs to be looked at for itself."""
    text = "\n".join(["", *names, ""])
    if not text.isascii() or ".." in text or not none_is_hidden(text) or text.count("\n") != len(names) + 1:
        return False
    end = names[0][names[0].rfind(".") :] if names else ""
    if text.count(f"{end}\n") == len(names):  # as most often: all have the same
        return end.lower() in suffixes
    return suffixes.issuperset(end.lower() for end in {name[name.rfind(".") :] for name in names})


def folder_runs(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(first, the one behind the last) of those names beside each other that lie in the same folder."""
    first, text = names[0][: names[0].rfind("/") + 1], "\n".join(["", *names])
    if text.count(f"\n{first}") == len(names) and text.count("/") == len(names) * first.count("/"):  # all in one
        yield 0, len(names)
        return
    folders, start = [name[: name.rfind("/") + 1] for name in names], 0
    for stop, folder in enumerate([*folders[1:], None], 1):
        if folder != folders[start]:
            yield start, stop
            start = stop


def _listed(division: Division, piece: Piece, tally: Tally) -> Iterator[Entries]:
    """All files of a piece, hidden ones too, some at a time."""
    known = None
    if piece.kept is not None and division.kept is not None:
        known = inventory_entries([kept_slice(division.kept, piece.kept)])
    return some_files(division.folder, tally.left_out, division.settings.inventory, piece.stretch, known)


def _one_by_one(division: Division, entries: Iterable[Entry], tally: Tally, splits: FolderSplits) -> Iterator[Seen]:
    settings, pairing = division.settings, division.settings.pairing
    files = of_layout(division.chosen, division.weighed, entries, settings.image_suffixes, tally, pairing)
    is_labelled, narrows = settings.kind != "flat" and pairing is None, bool(settings.include or settings.exclude)
    root = division.folder.uri_of("x")[:-1]
    for entry in files:
        name = entry.name
        if pairing is not None and pairing.is_map(name):
            yield Seen(name, "", None, None, version=entry.version or None, of_key=MAP)
            continue
        is_plain = name.isascii()  # two names may be one in Unicode's composed form
        key = name if is_plain else one_form(name)
        if narrows and not settings.takes(key):
            tally.left_out[EXCLUDED] += 1
            continue
        split, place, label = splits.of(key)
        yield Seen(
            key,
            root + name,
            label if is_labelled else None,
            split,
            entry.size_bytes,
            entry.version or None,
            place,
            PLAIN if is_plain else MAY_REPEAT,
        )


def holds_val(division: Division, place: str) -> bool:
    """Whether a folder has images of a val set, for a listing that does not look at all of it."""
    settings, pairing = division.settings, division.settings.pairing
    return any(
        layout_of_file(entry.name, settings.image_suffixes) == "folders"
        and not (pairing is not None and pairing.is_map(entry.name))
        and not is_hidden(entry.name)
        and settings.takes(one_form(entry.name))
        for entry in _of_val(division, place)
    )


def _of_val(division: Division, place: str) -> Iterator[Entry]:
    """The files of the folders at a place whose name says val, whatever form of it."""
    folder, inventory = division.folder, division.settings.inventory
    if inventory:
        for entry in itertools.chain.from_iterable(some_files(folder, Counter(), inventory)):
            name, *below = entry.name.removeprefix(place).split("/")
            if entry.name.startswith(place) and below and split_of_folder(name) == "val":
                yield entry
        return
    for name in (folder.join(place) if place else folder).list_folders():
        if split_of_folder(name) == "val":
            yield from folder.list(f"{place}{name}/", include_hidden=True)
