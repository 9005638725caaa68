"""Image files in folders: the first folder below the root, or beside that of a split, is the class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from seit_ray.images.sources.division import MAP, MAY_REPEAT, PLAIN, Division, Piece, Seen, Tally
from seit_ray.images.sources.inventory import inventory_entries, kept_slice
from seit_ray.images.sources.layout import layout_of_file, of_layout, visible
from seit_ray.images.sources.names import is_hidden, one_form
from seit_ray.images.sources.settings import EXCLUDED
from seit_ray.images.sources.splits import VAL_FOLDERS, FolderSplits
from seit_ray.storage import Entry


def seen(division: Division, piece: Piece, tally: Tally, entries: Iterable[Entry] | None = None) -> Iterator[Seen]:
    """The image files of a stretch of names, in their order, and label maps; entries: what was listed of it already."""
    settings, pairing = division.settings, division.settings.pairing
    if piece.files:  # one image, which is the source itself
        entries = [Entry(file.name, division.folder.size(file.name) or 0, file.version or "") for file in piece.files]
    if entries is None:
        known = None
        if piece.kept is not None and division.kept is not None:
            known = inventory_entries(kept_slice(division.kept, piece.kept))
        entries = visible(division.folder, tally.left_out, settings.inventory, piece.stretch, known)
    files = of_layout(division.chosen, division.weighed, entries, settings.image_suffixes, tally, pairing)
    splits = FolderSplits(tally, find_splits=settings.find_splits)
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
    for folder in VAL_FOLDERS:
        for entry in division.folder.list(f"{place}{folder}/", include_hidden=True):
            if (
                layout_of_file(entry.name, settings.image_suffixes) == "folders"
                and not (pairing is not None and pairing.is_map(entry.name))
                and not is_hidden(entry.name)
                and settings.takes(one_form(entry.name))
            ):
                return True
    return False
