"""The objects below a prefix in the order of their keys, several folders at a time.

One stream of pages waits for the server once in a thousand keys. Where a prefix has folders, the first pages of the
next ones are asked for meanwhile: as many as FOLDERS_AHEAD, so that memory stays bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

from seit_ray.storage.entry import WHOLE, Entry, Stretch
from seit_ray.storage.service import Page

FOLDERS_AHEAD, PAGES_AHEAD = 16, 4  # folders that are listed at a time, and pages of each of them
MAX_PAGES = 100  # of the names of folders
SMALL_FOLDERS = 1 / 50  # folders an object, from which on they are small

Ask = Callable[..., Page]  # `Service.page` of a bucket and a base, by its keywords


def listed(ask: Ask, prefix: str, after: str = "") -> Iterator[Entry]:
    """The objects whose names begin with `prefix` and lie behind `after`."""
    page = ask(prefix=prefix, **({"after": after} if after else {}))
    yield from page.objects
    if page.token is not None:
        yield from rest(ask, prefix, page)


def rest(ask: Ask, prefix: str, page: Page) -> Iterator[Entry]:
    """What comes behind a page that is not the last."""
    last = page.objects[-1].name if page.objects else ""
    names = [entry.name[len(prefix) :] for entry in page.objects]
    here = {name.partition("/")[0] for name in names if "/" in name}
    are_small = len(here) > SMALL_FOLDERS * len(names)  # a request for each would be more than there are pages
    top = top_level(ask, prefix) if last and not are_small else None
    if top is None:
        yield from chain.from_iterable(behind(ask, prefix, page))
        return
    found, folders = top
    name, slash, _ = last[len(prefix) :].partition("/")
    if slash:  # the folder in which the page ends
        yield from listed(ask, f"{prefix}{name}/", last)
    begun = f"{prefix}{name}{slash}".encode()
    pieces = sorted({*found, *folders})
    waiting: deque[Entry | tuple[str, Future[list[Page]]]] = deque()
    pool = ThreadPoolExecutor(FOLDERS_AHEAD)
    try:
        for piece in pieces:
            if piece <= begun:
                continue
            waiting.append(found[piece] if piece in found else (piece.decode(), pool.submit(first_pages, ask, piece)))
            if len(waiting) > FOLDERS_AHEAD:
                yield from objects_of(ask, waiting.popleft())
        while waiting:
            yield from objects_of(ask, waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def top_level(ask: Ask, prefix: str) -> tuple[dict[bytes, Entry], list[bytes]] | None:
    """(objects, folders) directly below a prefix; None where it has no folders, or too much beside them."""
    found: dict[bytes, Entry] = {}
    folders: list[bytes] = []
    more: dict[str, Any] = {}
    for _ in range(MAX_PAGES):
        page = ask(prefix=prefix, delimiter="/", **more)
        found |= {entry.name.encode(): entry for entry in page.objects}
        folders += [folder.encode() for folder in page.folders]
        if page.token is None:
            return (found, folders) if folders else None
        if len(page.objects) > len(page.folders):  # to look for folders in a flat prefix would list it twice
            return None
        more = {"token": page.token}
    return None


def first_pages(ask: Ask, folder: bytes) -> list[Page]:
    """The first pages of a folder."""
    pages = [ask(prefix=folder.decode())]
    while len(pages) < PAGES_AHEAD and pages[-1].token is not None:
        pages.append(ask(prefix=folder.decode(), token=pages[-1].token))
    return pages


def objects_of(ask: Ask, piece: Entry | tuple[str, Future[list[Page]]]) -> Iterator[Entry]:
    """An object, or those of a folder."""
    if isinstance(piece, Entry):
        yield piece
        return
    folder, coming = piece
    pages = coming.result()
    for page in pages:
        yield from page.objects
    if pages[-1].token is not None:
        yield from rest(ask, folder, pages[-1])


def one_stream(ask: Ask, prefix: str, stretch: Stretch = WHOLE) -> Iterator[Sequence[Entry]]:
    """The objects of a stretch whose names begin with `prefix`, as the server lists them, those of a page at a time."""
    after, until = stretch
    page = ask(prefix=prefix, **({"after": after} if after else {}))
    yield from behind(ask, prefix, page, until, itself=True)


def behind(
    ask: Ask, prefix: str, page: Page, until: str | None = None, *, itself: bool = False
) -> Iterator[Sequence[Entry]]:
    """The objects of the pages behind one, while the next page is on its way; up to a name, or to the end.

    itself: the page too.
    """
    with ThreadPoolExecutor(1) as pool:
        is_shown = itself
        while True:
            is_last = page.token is None or (until is not None and bool(page.objects) and page.objects[-1].name > until)
            coming = None if is_last else pool.submit(ask, prefix=prefix, token=page.token)
            if is_shown:
                if until is None or not page.objects or page.objects[-1].name <= until:
                    yield page.objects
                else:
                    yield page.objects[: bisect_right(page.objects, until, key=lambda entry: entry.name)]
            if coming is None:
                return
            page, is_shown = coming.result(), True
