"""What a source holds: image files, Parquet files of images, or tars of them; seen while it is listed, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from seit_ray.images.sources.division import Tally
from seit_ray.images.sources.inventory import inventory_entries, sorted_inventory
from seit_ray.images.sources.names import NO_SUFFIX, is_hidden, kind_of, suffix_of
from seit_ray.images.sources.pairing import Pairing
from seit_ray.images.sources.tars import COMPRESSED
from seit_ray.storage import WHOLE, Entries, Entry, Folder, Stretch

LOOK = 1000  # files that may hold images, a page of a bucket, before the layout is chosen
CLEAR = 0.95  # share of the bytes that one layout must have
WORDS = {"folders": "images", "parquet": "Parquet files of images", "webdataset": "tars"}


def heaviest(tally: Tally) -> str:
    """The layout with most bytes; '' for no files."""
    return max(tally.size_bytes, key=lambda layout: tally.size_bytes[layout], default="")


def check_weights(tally: Tally, chosen: str, uri: str) -> None:
    """ValueError unless most of the bytes are of the chosen layout."""
    share = tally.size_bytes[chosen] / max(1, tally.size_bytes.total())
    if share < CLEAR:
        found = " and ".join(
            f"{WORDS[layout]} ({tally.files[layout]} files, {size / 2**20:.2g} MiB)"
            for layout, size in tally.size_bytes.most_common()
        )
        kinds = ", ".join(layout for layout, _ in tally.size_bytes.most_common())
        raise ValueError(
            f"source {uri} with {found}; expected one of them; set source.kind to what it is ({kinds}), or point "
            "at the folder of the one that is meant"
        )


def layout_of_file(name: str, suffixes: frozenset[str], pairing: Pairing | None = None) -> str | None:
    """The layout that a file speaks for, label maps that of their images; None for files that hold neither."""
    suffix = suffix_of(name)
    if suffix in suffixes or (pairing is not None and pairing.is_map(name)):
        return "folders"
    if suffix == ".parquet":
        return "parquet"
    return "webdataset" if suffix == ".tar" or COMPRESSED.search(name) else None


def visible(
    source: Folder,
    left_out: Counter[str],
    inventory: str | None = None,
    stretch: Stretch | None = None,
    known: Iterator[Entries] | None = None,
) -> Iterator[Entry]:
    """The files of a source that are not hidden: see `some_files`."""
    return not_hidden(chain.from_iterable(some_files(source, left_out, inventory, stretch, known)))


def some_files(
    source: Folder,
    left_out: Counter[str],
    inventory: str | None = None,
    stretch: Stretch | None = None,
    known: Iterator[Entries] | None = None,
) -> Iterator[Entries]:
    """The files of a source, some at a time, listed or from its inventory; counts those that cannot be listed.

    known: what is known of the inventory already.
    """

    def skipped(reason: str) -> None:
        left_out[reason] += 1

    if inventory and known is None:
        known = inventory_entries(sorted_inventory(source, inventory).slices())
    return source.list_some(on_skipped=skipped, stretch=stretch or WHOLE) if known is None else known


def not_hidden(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Those that are not hidden."""
    for entry in entries:
        if not is_hidden(entry.name):
            yield entry


def of_layout(
    layout: str,
    weighed: Collection[str],
    entries: Iterable[Entry],
    suffixes: frozenset[str],
    tally: Tally,
    pairing: Pairing | None = None,
) -> Iterator[Entry]:
    """The entries that a layout reads; counts the others, and weighs those of the layouts `weighed`."""
    for entry in entries:
        found = layout_of_file(entry.name, suffixes, pairing)
        if found is not None and found in weighed:
            tally.weigh(found, entry)
        if found == layout:
            yield entry
        else:
            tally.left_out[kind_of(entry.name)] += 1


@dataclass
class Beginning:
    """The first files of a source that may hold images, as its listing goes on; last: the name of the last one seen.

    left_out counts what holds no images. is_whole: whether the source ends with them.
    """

    listing: Iterator[Entry]
    suffixes: frozenset[str]
    left_out: Counter[str]
    pairing: Pairing | None = None
    entries: list[Entry] = field(default_factory=list)
    last: str = ""
    is_whole: bool = False

    def read(self, most: int) -> None:
        """On, up to `most` files in all."""
        while len(self.entries) < most and not self.is_whole:
            entry = next(self.listing, None)
            if entry is None:
                self.is_whole = True
                return
            self.last = entry.name
            if layout_of_file(entry.name, self.suffixes, self.pairing) is None:
                self.left_out[kind_of(entry.name)] += 1
            else:
                self.entries.append(entry)


def found_layout(
    source: Folder, beginning: Beginning, has_images: Callable[[str], bool]
) -> tuple[str, tuple[str, ...]]:
    """(layout, layouts to be weighed) of a folder by its first files; ValueError when there is none, or none is clear.

    has_images: (name of a Parquet file) -> whether it has a column of images; asked of two, beside other layouts. A
    source of more than LOOK files is judged by these, and once more when all were listed: see `check_weights`.
    """
    beginning.read(LOOK)
    if not beginning.entries:
        raise nothing_found(source, beginning.suffixes, beginning.left_out)
    tally, weighed = Tally(), set(WORDS)
    for entry in beginning.entries:
        tally.weigh(layout_of_file(entry.name, beginning.suffixes, beginning.pairing) or "", entry)
    if len(tally.files) > 1 and tally.files["parquet"]:
        names = [entry.name for entry in beginning.entries if suffix_of(entry.name) == ".parquet"]
        if not any(map(has_images, {names[0], names[-1]})):  # metadata, such as img2dataset writes beside its tars
            del tally.files["parquet"], tally.size_bytes["parquet"]
            weighed.remove("parquet")
    chosen = heaviest(tally)
    if beginning.is_whole:
        check_weights(tally, chosen, source.uri)
    return chosen, tuple(sorted(weighed))


def nothing_found(source: Folder, suffixes: frozenset[str], left_out: Counter[str]) -> ValueError:
    """The error for a source without images; raises what is wrong with the place itself."""
    source.check_readable()
    seen = ", ".join(f"{count} of {kind}" for kind, count in left_out.most_common(5)) or "no files"
    plain = "; source.suffixes=[''] reads files without a suffix, where those are images" if left_out[NO_SUFFIX] else ""
    return ValueError(
        f"source {source.uri} with {seen}; expected images ({' '.join(sorted(suffixes))}), Parquet "
        f"files with images, tars of them, or the uri of a .csv or .parquet table itself; correct the uri{plain}"
    )
