"""The objects below a prefix in the order of their keys, several folders at a time.

One stream of pages waits for the server once in a thousand keys. Where a prefix has folders, the first pages of the
next ones are asked for meanwhile: as many as FOLDERS_AHEAD, so that memory stays bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

FOLDERS_AHEAD, PAGES_AHEAD = 16, 4  # folders that are listed at a time, and pages of each of them
MAX_PAGES = 100  # of the names of folders
SMALL_FOLDERS = 1 / 50  # folders an object, from which on they are small

Item = dict[str, Any]
Page = dict[str, Any]
Ask = Callable[..., Page]  # list_objects_v2 of a bucket, by its other keywords


def listed(ask: Ask, prefix: str, after: str = "") -> Iterator[Item]:
    """The objects whose keys begin with `prefix` and lie behind `after`."""
    page = ask(Prefix=prefix, **({"StartAfter": after} if after else {}))
    yield from page.get("Contents", ())
    if page.get("IsTruncated"):
        yield from rest(ask, prefix, page)


def rest(ask: Ask, prefix: str, page: Page) -> Iterator[Item]:
    """What comes behind a page that is not the last."""
    last = page["Contents"][-1]["Key"] if page.get("Contents") else ""
    names = [item["Key"][len(prefix) :] for item in page.get("Contents", ())]
    here = {name.partition("/")[0] for name in names if "/" in name}
    are_small = len(here) > SMALL_FOLDERS * len(names)  # a request for each would be more than there are pages
    top = top_level(ask, prefix) if last and not are_small else None
    if top is None:
        yield from one_stream(ask, prefix, page)
        return
    found, folders = top
    name, slash, _ = last[len(prefix) :].partition("/")
    if slash:  # the folder in which the page ends
        yield from listed(ask, f"{prefix}{name}/", last)
    begun = f"{prefix}{name}{slash}".encode()
    pieces = sorted({*found, *folders})
    waiting: deque[Item | tuple[str, Future[list[Page]]]] = deque()
    pool = ThreadPoolExecutor(FOLDERS_AHEAD)
    try:
        for piece in pieces:
            if piece <= begun:
                continue
            waiting.append(found[piece] if piece in found else (piece.decode(), pool.submit(first_pages, ask, piece)))
            if len(waiting) > FOLDERS_AHEAD:
                yield from items_of(ask, waiting.popleft())
        while waiting:
            yield from items_of(ask, waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def top_level(ask: Ask, prefix: str) -> tuple[dict[bytes, Item], list[bytes]] | None:
    """(objects, folders) directly below a prefix; None where it has no folders, or too much beside them."""
    found: dict[bytes, Item] = {}
    folders: list[bytes] = []
    more: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        page = ask(Prefix=prefix, Delimiter="/", **more)
        contents, prefixes = page.get("Contents", ()), page.get("CommonPrefixes", ())
        found |= {item["Key"].encode(): item for item in contents}
        folders += [item["Prefix"].encode() for item in prefixes]
        if not page.get("IsTruncated"):
            return (found, folders) if folders else None
        if len(contents) > len(prefixes):  # to look for folders in a flat prefix would list it twice
            return None
        more = {"ContinuationToken": page["NextContinuationToken"]}
    return None


def first_pages(ask: Ask, folder: bytes) -> list[Page]:
    """The first pages of a folder."""
    pages = [ask(Prefix=folder.decode())]
    while len(pages) < PAGES_AHEAD and pages[-1].get("IsTruncated"):
        pages.append(ask(Prefix=folder.decode(), ContinuationToken=pages[-1]["NextContinuationToken"]))
    return pages


def items_of(ask: Ask, piece: Item | tuple[str, Future[list[Page]]]) -> Iterator[Item]:
    """An object, or those of a folder."""
    if isinstance(piece, dict):
        yield piece
        return
    folder, coming = piece
    pages = coming.result()
    for page in pages:
        yield from page.get("Contents", ())
    if pages[-1].get("IsTruncated"):
        yield from rest(ask, folder, pages[-1])


def one_stream(ask: Ask, prefix: str, page: Page) -> Iterator[Item]:
    """The pages behind one, the next of which is on its way while one is worked on."""

    def next_page(before: Page) -> Page:
        return ask(Prefix=prefix, ContinuationToken=before["NextContinuationToken"])

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next_page, page)
        while True:
            page = coming.result()
            if page.get("IsTruncated"):
                coming = pool.submit(next_page, page)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
