"""What a source holds: image files, Parquet files of images, or tars of them; seen while it is listed, once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from seit_ray.images.sources.inventory import inventory_entries
from seit_ray.images.sources.names import NO_SUFFIX, is_hidden, kind_of, suffix_of
from seit_ray.images.sources.tars import COMPRESSED
from seit_ray.storage import Entry, Folder

LOOK = 1000  # files that may hold images, a page of a bucket, before the layout is chosen
CLEAR = 0.95  # share of the bytes that one layout must have
WORDS = {"folders": "images", "parquet": "Parquet files of images", "webdataset": "tars"}


@dataclass
class Weights:
    """Files and bytes of each layout, as far as was listed."""

    files: Counter[str] = field(default_factory=Counter)
    size_bytes: Counter[str] = field(default_factory=Counter)

    def add(self, layout: str, entry: Entry) -> None:
        """Count a file."""
        self.files[layout] += 1
        self.size_bytes[layout] += max(1, entry.size_bytes)

    def drop(self, layout: str) -> None:
        """Files that turned out to hold no images."""
        del self.files[layout], self.size_bytes[layout]

    def heaviest(self) -> str:
        """The layout with most bytes; '' for no files."""
        return max(self.size_bytes, key=lambda layout: self.size_bytes[layout], default="")

    def check(self, chosen: str, uri: str) -> None:
        """ValueError unless most of the bytes are of the chosen layout."""
        share = self.size_bytes[chosen] / max(1, self.size_bytes.total())
        if share < CLEAR:
            found = " and ".join(
                f"{WORDS[layout]} ({self.files[layout]} files, {size / 2**20:.2g} MiB)"
                for layout, size in self.size_bytes.most_common()
            )
            kinds = ", ".join(layout for layout, _ in self.size_bytes.most_common())
            raise ValueError(
                f"source {uri} with {found}; expected one of them; set source.kind to what it is ({kinds}), or point "
                "at the folder of the one that is meant"
            )


def layout_of_file(name: str, suffixes: frozenset[str]) -> str | None:
    """The layout that a file speaks for; None for files that hold no images."""
    suffix = suffix_of(name)
    if suffix in suffixes:
        return "folders"
    if suffix == ".parquet":
        return "parquet"
    return "webdataset" if suffix == ".tar" or COMPRESSED.search(name) else None


def visible(source: Folder, left_out: Counter[str], inventory: str | None = None) -> Iterator[Entry]:
    """The files of a source that are not hidden, listed or from its inventory; counts those that cannot be listed."""

    def skipped(reason: str) -> None:
        left_out[reason] += 1

    listed = inventory_entries(source, inventory) if inventory else None
    for entry in listed or source.list(include_hidden=True, on_skipped=skipped):
        if not is_hidden(entry.name):
            yield entry


def files_of(
    layout: str, entries: Iterator[Entry], suffixes: frozenset[str], left_out: Counter[str]
) -> Iterator[Entry]:
    """The entries that a layout reads; counts the others."""
    for entry in entries:
        if layout_of_file(entry.name, suffixes) == layout:
            yield entry
        else:
            left_out[kind_of(entry.name)] += 1


def found_layout(
    source: Folder,
    entries: Iterator[Entry],
    suffixes: frozenset[str],
    left_out: Counter[str],
    has_images: Callable[[str], bool],
) -> tuple[str, Iterator[Entry]]:
    """(layout, its files in the order of names) of a folder's entries; ValueError when there is none, or none is clear.

    has_images: (name of a Parquet file) -> whether it has a column of images; asked of two, beside other layouts. A
    source of more than LOOK files is judged by these, and once more when all were listed: then the last step raises.
    """
    weights = Weights()
    head: list[Entry] = []
    is_whole = True
    for entry in entries:
        layout = layout_of_file(entry.name, suffixes)
        if layout is None:
            left_out[kind_of(entry.name)] += 1
            continue
        weights.add(layout, entry)
        head.append(entry)
        if len(head) == LOOK:
            is_whole = False
            break
    if not head:
        raise nothing_found(source, suffixes, left_out)
    without_images = set()
    if len(weights.files) > 1 and weights.files["parquet"]:
        names = [entry.name for entry in head if suffix_of(entry.name) == ".parquet"]
        if not any(map(has_images, {names[0], names[-1]})):  # metadata, such as img2dataset writes beside its tars
            weights.drop("parquet")
            without_images.add("parquet")
    chosen = weights.heaviest()
    if is_whole:
        weights.check(chosen, source.uri)

    def files() -> Iterator[Entry]:
        for number, entry in enumerate(itertools.chain(head, entries)):
            layout = layout_of_file(entry.name, suffixes)
            if number >= len(head) and layout is not None and layout not in without_images:
                weights.add(layout, entry)
            if layout == chosen:
                yield entry
            else:
                left_out[kind_of(entry.name)] += 1
        weights.check(chosen, source.uri)

    return chosen, files()


def nothing_found(source: Folder, suffixes: frozenset[str], left_out: Counter[str]) -> ValueError:
    """The error for a source without images; raises what is wrong with the place itself."""
    source.check_readable()
    seen = ", ".join(f"{count} of {kind}" for kind, count in left_out.most_common(5)) or "no files"
    plain = "; source.suffixes=[''] reads files without a suffix, where those are images" if left_out[NO_SUFFIX] else ""
    return ValueError(
        f"source {source.uri} with {seen}; expected images ({' '.join(sorted(suffixes))}), Parquet "
        f"files with images, tars of them, or the uri of a .csv or .parquet table itself; correct the uri{plain}"
    )
