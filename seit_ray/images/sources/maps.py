"""The label maps of a source: which of its images has which, what their classes are, and whether the first ones fit.

Images and maps are met in any order and by several pieces, so that they are joined when all were seen (`gather`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seit_ray.images.decode import MAX_PIXELS
from seit_ray.images.fetch import fetch_images
from seit_ray.images.formats import ImageError
from seit_ray.images.known import hashes_of
from seit_ray.images.label_maps import MapLabels, read_map, seen_size
from seit_ray.images.records import no_map, unusable, unusable_reason
from seit_ray.images.rows import FoundRows
from seit_ray.images.sources.class_names import read_class_names
from seit_ray.images.sources.division import Division
from seit_ray.images.sources.layout import visible
from seit_ray.images.sources.pairing import WITHOUT, Pairing
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, Stretch

ADE = "annotations"  # ADE-20k's: 0 is "other"
LOOK = 32  # pairs that are looked at before any work
MAX_BYTES = 64 << 20
SCHEMA = pa.schema({"hash": pa.uint64(), "version": pa.string()})


def map_rows(names: list[str], versions: list[str | None]) -> pa.Table:
    """Maps as they are kept: the hash of each name, and its version; some 50 bytes a map."""
    return pa.table([pa.array(hashes_of(names)), pa.array(versions, pa.string())], schema=SCHEMA)


class LabelMaps:
    """The maps of a source, or those that some of its images need: `paired` with all images, then `left_over`."""

    def __init__(self, folder: Folder, pairing: Pairing, tables: Iterable[pa.Table]):
        self.root, self.pairing = folder.uri_of("x")[:-1], pairing
        rows = pa.concat_tables([SCHEMA.empty_table(), *tables]).sort_by("hash").combine_chunks()
        self.hashes = rows["hash"].to_numpy()
        self.versions = pa.concat_arrays([pa.array([], pa.string()), *rows["version"].chunks])
        self.seen = np.zeros(len(rows), bool)

    def __len__(self) -> int:
        return len(self.seen)

    def paired(self, rows: FoundRows) -> FoundRows:
        """Images with the uris and versions of their maps; the uri of one that is not there is a reason."""
        names = wanted(rows.uris, self.root, self.pairing)
        hashes = hashes_of([name or "" for name in names])
        places = np.minimum(np.searchsorted(self.hashes, hashes), max(0, len(self) - 1))
        is_there = self.hashes[places] == hashes if len(self) else np.zeros(len(rows), bool)
        self.seen[places[is_there]] = True
        uris = [
            self.root + name if name and found else no_map(self._reason(name))
            for name, found in zip(names, is_there.tolist(), strict=True)
        ]
        versions = self.versions.take(pa.array(places, mask=~is_there))
        return replace(rows, masks=pa.array(uris, pa.string()), mask_versions=versions)

    def _reason(self, name: str | None) -> str:
        if name is None:
            return f"it lies in no folder {self.pairing.images!r}"
        return f"there is no {name}"

    def left_over(self) -> Counter[str]:
        """How many maps no image has had, as it is counted."""
        number = int((~self.seen).sum())
        return Counter({WITHOUT: number} if number else {})


def wanted(uris: pa.StringArray, root: str, pairing: Pairing) -> list[str | None]:
    """The names of the maps that images have; None for those in no folder of images."""
    return [pairing.map_of(uri[len(root) :]) for uri in uris.to_pylist()]


def maps_of(division: Division, names: Iterable[str | None]) -> Iterator[pa.Table]:
    """Those of some maps that are there, for a listing that does not look at all of the source."""
    folder, settings = division.folder, division.settings
    by_folder: dict[str, list[str]] = {}
    for name in names:
        if name is not None:
            by_folder.setdefault(name[: name.rfind("/") + 1], []).append(name)
    stretches: list[Stretch | None] = [(min(some)[:-1], max(some)) for some in by_folder.values()]
    if len(division.pieces) == 1:  # small, or of no order
        stretches = [None]
    known = {name for some in by_folder.values() for name in some}
    for stretch in stretches:
        entries = visible(folder, Counter(), settings.inventory, stretch)
        found = [(entry.name, entry.version or None) for entry in entries if entry.name in known]
        yield map_rows([name for name, _ in found], [version for _, version in found])


def check_any(maps: LabelMaps, division: Division, *, is_whole: bool) -> None:
    """ValueError for a source without any maps; is_whole: whether `maps` are all of them."""
    folder, pairing = division.folder, maps.pairing
    if len(maps) or (
        not is_whole and any(pairing.is_map(e.name) for e in visible(folder, Counter(), division.settings.inventory))
    ):
        return
    raise ValueError(
        f"source.masks {division.settings.masks!r} of {folder.uri}, where no file lies in a folder of that name; "
        f"expected label maps, as in {pairing.images}/x.jpg and {pairing.maps}/x.png; correct it"
    )


def class_names_of_maps(settings: SourceSettings, source: Folder) -> tuple[list[str], MapLabels]:
    """(names, meaning of the values) of a source's maps; ValueError unless the classes are known."""
    names = None
    if settings.class_names:
        found = read_class_names(settings.class_names, source)
        if isinstance(found, dict):
            raise ValueError(
                f"class names {settings.class_names} are a mapping; expected a list, in the order of the values of the "
                "label maps and without void; write a name a line"
            )
        names = found
    if names is None and settings.num_classes is None:
        raise ValueError(
            "label maps without classes; expected how many the label maps have, without void; set source.class_names "
            "to a file with a name a line, or source.num_classes"
        )
    if names is not None and settings.num_classes not in (None, len(names)):
        raise ValueError(
            f"source.num_classes {settings.num_classes} with {len(names)} names in {settings.class_names}; expected "
            "one of them, or equal numbers; correct it"
        )
    names = names if names is not None else [str(number) for number in range(settings.num_classes or 0)]
    return names, MapLabels(len(names), void_of(settings))


def void_of(settings: SourceSettings) -> int:
    """The value that is no class: as set, else 0 for the layout of ADE-20k and 255 for others."""
    if settings.void is not None:
        return settings.void
    return 0 if (settings.masks or "").rpartition(":")[2] == ADE else 255


def check_resize(settings: SourceSettings, resize: str) -> None:
    """ValueError where images with label maps would lose their border, of which a map tells too."""
    if settings.has_maps and resize != "squash":
        raise ValueError(
            f"resize {resize!r} of images with label maps; expected 'squash', which keeps all of an image that its map "
            "tells of; fit a tokenizer with resize=squash"
        )


def checked_pairs(
    found: Iterable[FoundRows], source: Folder, labels: MapLabels, image_column: str, *, is_whole: bool
) -> Iterator[FoundRows]:
    """The images, of which the first LOOK pairs are looked at (`check_maps`) as soon as they are there.

    ValueError where no image of a source that is whole has a map.
    """
    pairs: list[tuple[str, str, str]] = []
    number, first = 0, ""
    for rows in found:
        if len(pairs) < LOOK:
            pairs += first_pairs(rows, LOOK - len(pairs))
            if len(pairs) == LOOK:
                check_maps(pairs, source, labels, image_column)
        number += len(rows)
        if not pairs and not first and len(rows):
            assert rows.masks is not None  # of a source of pairs
            first = f"{rows.keys[0]}: {unusable_reason(rows.masks[0].as_py())}"
        yield rows
    if number and not pairs and is_whole:
        raise ValueError(
            f"none of {number} images of {source.uri} with a label map ({first}); expected them; check "
            "source.masks or source.mask_column"
        )
    if len(pairs) < LOOK:
        check_maps(pairs, source, labels, image_column)


def first_pairs(rows: FoundRows, most: int) -> list[tuple[str, str, str]]:
    """(key, uri, uri of the map) of the first images that have a map."""
    assert rows.masks is not None  # of a source of pairs
    found = pc.indices_nonzero(pc.invert(pc.starts_with(rows.masks, unusable("")))).slice(0, most)
    columns = (rows.keys, rows.uris, rows.masks)
    return list(zip(*(column.take(found).to_pylist() for column in columns), strict=True))


def check_maps(pairs: Sequence[tuple[str, str, str]], source: Folder, labels: MapLabels, image_column: str) -> None:
    """ValueError for the first of some pairs whose map has another size, or labels outside the classes.

    What cannot be read, or is not there, is told later, as a reject.
    """
    images, maps = [(key, uri) for key, uri, _ in pairs], [(key, mask) for key, _, mask in pairs]
    contents = fetch_images([*images, *maps], source, image_column=image_column, max_bytes=MAX_BYTES)
    for (key, _, _), image, data in zip(pairs, contents[: len(pairs)], contents[len(pairs) :], strict=True):
        if isinstance(image, Exception) or isinstance(data, Exception):
            continue
        try:
            size = seen_size(image)
        except Exception:  # the readers raise whatever a damaged file leads them to
            continue
        if size[0] * size[1] > MAX_PIXELS:  # which becomes a reject
            continue
        try:
            read_map(data, labels, size)
        except ImageError as error:
            raise ValueError(f"{key}: {error}") from error
