"""Where a long listing may be cut, so that its stretches can be listed at the same time.

A cut is a name: one stretch ends with it, and the next begins behind it. Whatever the cuts are, the stretches hold
every object once; how alike they are is a guess, made by few requests: the names of folders, and where there are none,
the characters in which names differ.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from seit_ray.storage.listing import Ask

REQUESTS_AHEAD = 16
FOLDER_PAGES = 10  # of the names of folders in one folder
ENOUGH = 16  # cuts, with which no further level is looked into
OBJECTS_EACH = 5000  # of a stretch at least, as far as can be known: its last page is asked for in vain by half
LEVELS = 3  # of folders, or of characters
LOOKED_INTO = 32  # folders, or beginnings of names, of a level
CHARACTERS, CHARACTERS_MORE = 96, 12  # that are looked for one by one; of more, with which the distance is doubled

LAST = "\U0010ffff"

Place = TypeVar("Place")


def cuts(ask: Ask, after: str, most: int, listed: int = 0) -> list[str]:
    """At most `most` names behind `after`, ascending; none where nothing shows how to divide what lies there.

    listed: how many objects there are up to `after`: see `chosen`.
    """
    if most < 1:
        return []
    found: set[str] = set()
    level = [("", True)]  # folders, and beginnings of names
    with ThreadPoolExecutor(REQUESTS_AHEAD) as pool:
        for _ in range(LEVELS):
            looked = list(pool.map(lambda place: inside(ask, *place), evenly(level, LOOKED_INTO)))
            level = []
            for folders, beginnings in looked:
                found.update(folders, beginnings[1:])  # what begins with the least one needs no cut before it
                level += [(name, True) for name in folders] + [(name, False) for name in beginnings]
            if len(found) >= ENOUGH or not level:
                break
    return chosen(found, after, most, listed)


def chosen(found: Collection[str], after: str, most: int, listed: int) -> list[str]:
    """Of the names behind `after` at most `most`: fewer where few objects are to be expected behind it.

    As many lie between two of the names as did on the average up to `after`.
    """
    behind = sorted(name for name in found if name > after)
    passed = len(found) - len(behind)
    if listed and passed:
        most = min(most, max(ENOUGH, round(listed / passed * len(behind) / OBJECTS_EACH)))
    return evenly(behind, most)


def evenly(names: list[Place], most: int) -> list[Place]:
    """At most `most` of them, as far apart as they can be."""
    if len(names) <= most:
        return names
    return [names[(2 * i + 1) * len(names) // (2 * most)] for i in range(most)]


def inside(ask: Ask, prefix: str, is_folder: bool) -> tuple[list[str], list[str]]:
    """(folders directly below a prefix, beginnings of names where objects lie there on several pages)."""
    if not is_folder:
        return [], by_characters(ask, prefix, prefix)
    folders: list[str] = []
    token = None
    for _ in range(FOLDER_PAGES):
        page = ask(prefix=prefix, delimiter="/", **({"token": token} if token else {}))
        folders += page.folders
        token = page.token
        if token is None:
            break
        if len(page.objects) > len(page.folders):
            return folders, by_characters(ask, prefix, page.objects[0].name)
    return folders, []


def by_characters(ask: Ask, prefix: str, first: str) -> list[str]:
    """The beginnings of names below a prefix, one character longer than what all of them have in common.

    first: a name, the least of those that begin with prefix. One request for each character that is met, of very many
    for some of them, and some more to find out where names differ.
    """
    low, high = len(prefix), len(first)  # that many characters are shared by all, and are not
    while low + 1 < high:
        middle = (low + high) // 2
        if name_behind(ask, prefix, first[:middle]) is None:
            low = middle
        else:
            high = middle
    stem = first[:low]
    found: list[str] = []
    name = next_name(ask, stem, "")
    if name == stem:  # an object is called so
        name = next_name(ask, stem, stem)
    while name is not None:
        found.append(name[: len(stem) + 1])
        name = name_behind(ask, stem, found[-1], 1 << max(0, (len(found) - CHARACTERS) // CHARACTERS_MORE))
    return found


def name_behind(ask: Ask, prefix: str, beginning: str, distance: int = 1) -> str | None:
    """The least name that begins with a prefix and lies behind all that begin so; at a distance in characters."""
    after = behind(beginning, distance)
    return None if after is None else next_name(ask, prefix, after)


def next_name(ask: Ask, prefix: str, after: str) -> str | None:
    """The least name behind `after` that begins with a prefix."""
    more = {"after": after} if after else {}
    found = ask(prefix=prefix, limit=1, **more).objects
    return found[0].name if found else None


def behind(beginning: str, distance: int = 1) -> str | None:
    """A name behind all that begin so, but for few; None where nothing can be, behind the last of all characters."""
    beginning = beginning.rstrip(LAST)
    if not beginning:
        return None
    code = min(ord(beginning[-1]) + distance, ord(LAST))
    return beginning[:-1] + chr(0xE000 if 0xD800 <= code < 0xE000 else code)
