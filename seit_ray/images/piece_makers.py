"""Who makes the pieces of a listing: threads here, or tasks of a cluster (`distributed/data/list_job.py`).

The same files come of it. Pieces that stand are not listed again.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace

from seit_ray.images.gather import Gathered, check_splits
from seit_ray.images.piece_writing import PieceCounts
from seit_ray.images.pieces import Pieces, pieces_in, place_of
from seit_ray.images.sources.division import Tally
from seit_ray.images.sources.faults import FILE_PATIENCE_S, answers
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.errors import StorageError, may_pass
from seit_ray.storage.patience import doubted, patiently

FEW_PIECES = 8  # that one process lists, whatever else there is
STREAMS = 32  # pieces of a bucket that one process lists at a time, which keeps a core busy; a disk lets none wait
TOLD = 1000  # images, how often it is said how far a listing is
WAKE_S = 0.5  # how often who waits for a piece looks up: Ray's interrupt of a cancelled task wakes no lock
OF_THE_SETUP = ("unavailable", "denied", "credentials", "full")  # kinds of StorageError: what stands is right

OnListed = Callable[[int], None]  # told how many more images were listed
Made = Generator[PieceCounts, None, None]
Make = Callable[[Pieces, Sequence[int], OnListed], Made]  # of some pieces, in their order


@contextlib.contextmanager
def listed_pieces(
    source: Folder,
    settings: SourceSettings,
    folder: Folder,
    is_enough: Callable[[int], bool] | None = None,
    make: Make | None = None,
    on_progress: Progress = silent,
    *,
    is_shared: bool = False,
) -> Iterator[Gathered]:
    """The images of a source by pieces, which stay in the folder, in a place of their source and settings.

    Of a listing that is to stop somewhere they lie in a temporary folder. What is to be mended in the source ends them
    too; a listing that is whole and shared outlives the errors of the block, for these may be of who reads it alone.
    """
    if is_enough is not None or settings.limit is not None:
        with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
            pieces = pieces_in(Folder(name), source, settings, is_sample=True)
            yield listed(pieces, is_enough, make, on_progress)
        return
    place = place_of(folder, source, settings)
    with dropped_when_wrong(place):
        pieces = pieces_in(place, source, settings)
        if pieces.is_taken_up:
            on_progress("listing", 1, 1, f"as it was begun on {pieces.begun} in {place.uri}; delete that to list anew")
        found = listed(pieces, None, make, on_progress)
    try:
        yield found
    except StorageError:  # of where the block writes
        raise
    except ValueError as error:
        if is_shared:
            raise ValueError(f"{error}; if the images are changed, delete {place.uri}, their listing") from error
        place.delete_tree()
        raise


@contextlib.contextmanager
def dropped_when_wrong(place: Folder) -> Iterator[None]:
    """Removes the pieces at a place where the block finds the source wrong, or not what it was: it is listed anew."""
    try:
        yield
    except ValueError as error:
        kind = error.kind if isinstance(error, StorageError) else ""
        if kind in OF_THE_SETUP:
            raise
        place.delete_tree()
        if kind == "changed":
            raise StorageError(
                f"{str(error).partition(' changed since')[0]} changed since the listing was begun; expected no change "
                "until it is done; give the command again, which lists anew",
                kind,
            ) from error
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
        counts.append(make_patiently(pieces, piece, ends, 0.0))
        before += counts[-1].num_rows
        if ended:
            break
    return Gathered(pieces, counts, is_whole=not ended)


def make_patiently(pieces: Pieces, number: int, tell: Callable[[int], bool], patience_s: float) -> PieceCounts:
    """Make a piece; patience_s: how long it is begun again while the storage does not answer.

    What of a file still stays away then, and again each time that the storage has answered since, is the file's own
    fault: see `faults`.
    """
    division = pieces.division
    has_files = bool(division.pieces[number].files)
    if has_files and not division.folder.is_remote:
        patience_s = max(patience_s, FILE_PATIENCE_S)
    try:
        return patiently(lambda: pieces.make(number, tell), patience_s)
    except StorageError as error:
        if not has_files or not may_pass(error):
            raise
    try:
        return doubted(lambda: pieces.make(number, tell), lambda: answers(division))
    except StorageError as error:
        if not may_pass(error) or not answers(division):
            raise
    return replace(pieces, division=replace(division, patience_ended=True)).make(number, tell)


def make_here(pieces: Pieces, todo: Sequence[int], on_listed: OnListed, patience_s: float = 0.0) -> Made:
    """By this process: several pieces of a bucket at a time; an error comes where its piece would.

    patience_s: see `make_patiently`.
    """
    ended = threading.Event()

    def made(number: int) -> PieceCounts:
        told = 0

        def tell(images: int) -> bool:
            nonlocal told
            if ended.is_set():  # nobody waits for it any more: it stays unfinished
                raise CancelledError
            if images >= told + TOLD:
                on_listed(images - told)
                told = images
            return False

        counts = make_patiently(pieces, number, tell, patience_s)
        on_listed(counts.num_rows - told)
        return counts

    if not pieces.division.folder.is_remote or len(todo) == 1:
        yield from map(made, todo)
        return
    with ThreadPoolExecutor(STREAMS, thread_name_prefix="listing") as pool:
        coming = [pool.submit(made, number) for number in todo]
        try:
            for future in coming:
                while not wait([future], timeout=WAKE_S).done:
                    continue
                yield future.result()
        finally:
            ended.set()
            pool.shutdown(wait=True, cancel_futures=True)
