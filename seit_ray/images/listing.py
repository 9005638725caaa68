"""From a source to a manifest, with progress: the first step of every verb that reads images.

The source is divided into pieces, each of which is listed and written for itself (`piece_makers`); then the manifest is
written of them, in the order of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from seit_ray.images.depth import LOOK, depth_notes, may_be_deep
from seit_ray.images.manifest import Manifest
from seit_ray.images.manifest_writing import Classes, HoldOut, ManifestWriter
from seit_ray.images.piece_makers import Make, listed_pieces
from seit_ray.images.rows import FoundRows
from seit_ray.images.sources.find import class_names_of, map_labels
from seit_ray.images.sources.maps import checked_pairs
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.output import claim, refuse_overlap

SHOWN = 8  # kinds of what was left out
PIECES = "pieces"
SHARED = "listing.json"  # says that a folder of source.listing is ours

Select = Callable[[FoundRows], np.ndarray]  # bool [N]: which of some images, each with a split, are written


def list_images(
    source: Folder,
    settings: SourceSettings,
    folder: Folder,
    *,
    val_fraction: float,
    seed: int,
    rows_per_part: int | None = None,
    select: Select | None = None,
    known_classes: Sequence[str] | None = None,
    is_enough: Callable[[int], bool] | None = None,
    make: Make | None = None,
    is_anew: bool = False,
    on_progress: Progress = silent,
) -> Manifest:
    """Find the images of a source and write their manifest into a folder; ValueError when there are none.

    select: there may be none then. known_classes: see `Classes`. is_enough: (images found) -> whether to stop there.
    The pieces stay in source.listing, for whoever lists this source with these settings, unless it is to be looked at
    anew; else they lie beside the manifest until it is complete. make: who lists; `make_here` else.
    """
    source.check_readable()
    hold_out = HoldOut(val_fraction, seed)
    shared = None if is_anew else shared_folder(source, settings)
    if shared is not None and is_enough is None and settings.limit is None:
        begin_shared(shared)
    pieces = shared or folder.join(PIECES)
    with listed_pieces(source, settings, pieces, is_enough, make, on_progress, is_shared=shared is not None) as found:
        labels = map_labels(found.division)
        writer = ManifestWriter(folder, hold_out, rows_per_part, labels)
        rows = found.rows()
        if labels is not None:
            rows = checked_pairs(rows, source, labels, settings.image_column, is_whole=found.is_whole)
        deep = write_rows(rows, writer, select)
        on_progress("list", writer.num_images, writer.num_images, "images")
        manifest = writer.finish(
            Classes(class_names_of(found.division), known_classes),
            left_out=found.left_out,
            notes=[*found.division.notes, *depth_notes(deep, source, settings)],
            white_level=settings.white_level,
            is_whole=found.is_whole and select is None,  # some images may be of some classes
        )
        if manifest.left_out:  # whoever lists has no other place to say it, but for a token dataset
            on_progress("left out", 1, 1, left_out_words(manifest.left_out))
        for number, note in enumerate(manifest.notes, 1):
            on_progress(f"note {number}", 1, 1, note)  # a line each: a phase shows its last note
        if select is None and not writer.num_images:
            raise no_images(source, manifest)
    if shared is None:
        folder.delete_tree(PIECES)
    return manifest


def write_rows(all_rows: Iterable[FoundRows], writer: ManifestWriter, select: Select | None) -> list[tuple[str, str]]:
    """Write the images, or those selected; (key, uri) of the first that may have 16 bits."""
    deep: list[tuple[str, str]] = []
    for rows in all_rows:
        if select is not None:
            rows = writer.held_out(rows)
            rows = rows.filter(select(rows))
        if len(deep) < LOOK:
            deep += may_be_deep(rows, LOOK - len(deep))
        writer.add(rows)
    return deep


def no_images(source: Folder, manifest: Manifest) -> ValueError:
    """The error for a source of which nothing is listed."""
    left_out = f" (left out: {left_out_words(manifest.left_out)})" if manifest.left_out else ""
    return ValueError(
        f"no images in {source.uri}{left_out}; expected jpg, png, webp, ... files, a table of them, or Parquet "
        "with image bytes; check the path, source.kind, source.include and source.exclude"
    )


def shared_folder(source: Folder, settings: SourceSettings) -> Folder | None:
    """The folder source.listing, which is ours alone and apart from the images; None where there is none."""
    if settings.listing is None:
        return None
    folder = source.at(settings.listing)
    refuse_overlap(folder, source, "images")
    claim(folder, (SHARED,))
    return folder


def begin_shared(folder: Folder) -> None:
    """Say that it is ours."""
    if not folder.exists(SHARED):
        folder.write(SHARED, b'{"holds": "listings of images, in a folder each; delete one to list anew"}')


def left_out_words(left_out: Mapping[str, int]) -> str:
    """'2 .txt, 1 .heic' of what was seen and not listed, the most first."""
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    more = f", and {len(ordered) - SHOWN} more kinds" if len(ordered) > SHOWN else ""
    return ", ".join(f"{count} {kind}" for kind, count in ordered[:SHOWN]) + more
