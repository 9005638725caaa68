"""From a source to a manifest, with progress: the first step of every verb that reads images.

The source is divided into pieces, each of which is listed and written for itself, by threads here or by tasks of a
cluster (`distributed/data/list_job.py`); then the manifest is written of them, in the order of the source. Pieces that
stand are not listed again.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np

from seit_ray.images.depth import LOOK, depth_notes, may_be_deep
from seit_ray.images.gather import Gathered, check_splits
from seit_ray.images.manifest import Manifest
from seit_ray.images.manifest_writing import Classes, HoldOut, ManifestWriter
from seit_ray.images.pieces import PieceCounts, Pieces, pieces_in, place_of
from seit_ray.images.records import FoundImages, ImageRecord
from seit_ray.images.rows import FoundRows
from seit_ray.images.sources.division import Tally
from seit_ray.images.sources.find import DEFAULT, class_names_of, divide, map_labels
from seit_ray.images.sources.maps import checked_pairs
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.errors import may_pass
from seit_ray.storage.output import claim, refuse_overlap
from seit_ray.storage.patience import patiently

SHOWN = 8  # kinds of what was left out
FEW_PIECES = 8  # that one process lists, whatever else there is
STREAMS = 16  # pieces of a bucket that one process lists at a time; a disk does not let one wait
TOLD = 1000  # images, how often it is said how far a listing is
PIECES = "pieces"
SHARED = "listing.json"  # says that a folder of source.listing is ours

OnListed = Callable[[int], None]  # told how many more images were listed
Make = Callable[[Pieces, Sequence[int], OnListed], Iterator[PieceCounts]]  # of some pieces, in their order
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
    with listed_pieces(source, settings, shared or folder.join(PIECES), is_enough, make, on_progress) as found:
        if shared is not None and found.pieces.is_taken_up:
            on_progress("listing", 1, 1, f"as it stands in {found.pieces.folder.uri}; delete that to list anew")
        labels = map_labels(found.division)
        writer, deep = ManifestWriter(folder, hold_out, rows_per_part, labels), list[tuple[str, str]]()
        for rows in found.rows() if labels is None else checked_pairs(found.rows(), source, labels):
            if select is not None:
                rows = rows.held_out(val_fraction=val_fraction, seed=seed)
                rows = rows.filter(select(rows))
            if len(deep) < LOOK:
                deep += may_be_deep(rows, LOOK - len(deep))
            writer.add(rows)
        on_progress("list", writer.num_images, writer.num_images, "images")
        manifest = writer.finish(
            Classes(class_names_of(found.division), known_classes),
            left_out=found.left_out,
            notes=[*found.division.notes, *depth_notes(deep, source, settings)],
            white_level=settings.white_level,
            is_whole=found.is_whole and select is None,  # some images may be of some classes
        )
        for number, note in enumerate(manifest.notes, 1):
            on_progress(f"note {number}", 1, 1, note)  # a line each: a phase shows its last note
        if select is None and not writer.num_images:
            raise no_images(source, manifest)
    if shared is None:
        folder.delete_tree(PIECES)
    return manifest


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


def find_images(source: Folder, settings: SourceSettings = DEFAULT) -> FoundImages:
    """The images of a source one by one, listed by this process: see `divide` for what is found."""
    shared = shared_folder(source, settings) if settings.limit is None else None
    if shared is not None:
        begin_shared(shared)
        kept = pieces_in(place_of(shared, source, settings), source, settings)
    division = kept.division if shared is not None else divide(source, settings, is_sample=settings.limit is not None)
    left_out = Counter[str]()

    def records() -> Iterator[ImageRecord]:
        with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
            found = listed(kept if shared is not None else Pieces(division, Folder(name)))
            for rows in found.rows():
                yield from rows.records()
            left_out.update(found.left_out)

    names, labels = class_names_of(division), map_labels(division)
    return FoundImages(division.kind, names, records(), left_out, division.notes, labels)


@contextlib.contextmanager
def listed_pieces(
    source: Folder,
    settings: SourceSettings,
    folder: Folder,
    is_enough: Callable[[int], bool] | None = None,
    make: Make | None = None,
    on_progress: Progress = silent,
) -> Iterator[Gathered]:
    """The images of a source by pieces, which stay in the folder, in a place of their source and settings.

    Of a listing that is to stop somewhere they lie in a temporary folder. What the user is to mend ends them too.
    """
    if is_enough is not None or settings.limit is not None:
        with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
            pieces = pieces_in(Folder(name), source, settings, is_sample=True)
            yield listed(pieces, is_enough, make, on_progress)
        return
    place = place_of(folder, source, settings)
    try:
        yield listed(pieces_in(place, source, settings), None, make, on_progress)
    except ValueError as error:
        if not may_pass(error):  # what stands is whole, and is taken up when the storage is there again
            place.delete_tree()
        raise


def listed(
    pieces: Pieces,
    is_enough: Callable[[int], bool] | None = None,
    make: Make | None = None,
    on_progress: Progress = silent,
) -> Gathered:
    """The images of all pieces, or of as many as are enough; those that stand are taken as they are."""
    if is_enough is not None or pieces.division.settings.limit is not None:
        return listed_so_far(pieces, is_enough or (lambda number: False), on_progress)
    number = 0

    def on_listed(more: int) -> None:
        nonlocal number
        number += more
        on_progress("list", number, 0, "images")

    standing, tally, counts = pieces.finished(), Tally(), list[PieceCounts]()
    todo = [piece for piece in range(pieces.num) if piece not in standing]
    with contextlib.closing((make or make_here)(pieces, todo, on_listed)) as coming:
        for piece in range(pieces.num):
            counts.append(standing[piece] if piece in standing else next(coming))
            tally.add(counts[-1].tally)
            check_splits(tally, pieces.division.folder.uri)
    return Gathered(pieces, counts, is_whole=True)


def listed_so_far(pieces: Pieces, is_enough: Callable[[int], bool], on_progress: Progress) -> Gathered:
    """The first images, one piece after the other, until there are enough, or as many as `source.limit`."""
    counts, before, limit = list[PieceCounts](), 0, pieces.division.settings.limit
    ended = False

    def ends(number: int) -> bool:
        nonlocal ended
        number += before
        if number % TOLD == 0:
            on_progress("list", number, 0, "images")
        ended = is_enough(number) or (limit is not None and number >= limit)
        return ended

    for piece in range(pieces.num):
        counts.append(pieces.make(piece, ends))
        before += counts[-1].num_rows
        if ended:
            break
    return Gathered(pieces, counts, is_whole=not ended)


def make_here(
    pieces: Pieces, todo: Sequence[int], on_listed: OnListed, patience_s: float = 0.0
) -> Iterator[PieceCounts]:
    """By this process: several pieces of a bucket at a time; an error comes where its piece would.

    patience_s: how long a piece is begun again while the storage does not answer.
    """

    ended = threading.Event()

    def made(number: int) -> PieceCounts:
        def tell(images: int) -> bool:
            if ended.is_set():  # nobody waits for it any more: it stays unfinished
                raise CancelledError
            if images % TOLD == 0:
                on_listed(TOLD)
            return False

        counts = patiently(lambda: pieces.make(number, tell), patience_s)
        on_listed(counts.num_rows % TOLD)
        return counts

    if not pieces.division.folder.is_remote or len(todo) == 1:
        yield from map(made, todo)
        return
    with ThreadPoolExecutor(STREAMS, thread_name_prefix="listing") as pool:
        coming = [pool.submit(made, number) for number in todo]
        try:
            for future in coming:
                yield future.result()
        finally:
            ended.set()
            pool.shutdown(wait=True, cancel_futures=True)


def left_out_words(left_out: Mapping[str, int]) -> str:
    """'2 .txt, 1 .heic' of what was seen and not listed, the most first."""
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    more = f", and {len(ordered) - SHOWN} more kinds" if len(ordered) > SHOWN else ""
    return ", ".join(f"{count} {kind}" for kind, count in ordered[:SHOWN]) + more
