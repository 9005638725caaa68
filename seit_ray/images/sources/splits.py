"""Splits by name, the same way for folders of images, Parquet files, tars and tables.

A name of a split is one whatever lies beside it; images that lie beside splits, and in none, are an error that names
them. A test set without a val set serves as val.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence

from seit_ray.images.sources.division import Tally

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
DEPTH = 2  # folders of an image that may be its split: 'train/cat/', or 'imagenet/train/cat/', 'cat/train/'
SHOWN = 3
_YEAR = re.compile(r"[-_ ]?(19|20)\d\d$")  # train2017


def split_name(value: object) -> str | None:
    """The split that a table's cell names; None for an empty one."""
    text = str(value).strip() if value is not None else ""
    return SPLITS.get(text.lower(), text) or None


def split_of_cell(value: object, serves: bool) -> tuple[str | None, str | None]:
    """(split, place) that a cell names; serves: whether test may serve as val, which then has a place."""
    split = split_name(value)
    return split, "" if serves and split in ("test", "val") else None


def split_of_folder(name: str) -> str | None:
    """train, val or test for a folder that has such a name, perhaps with a year; else None."""
    return SPLITS.get(_YEAR.sub("", name.lower()))


def split_of_file(name: str) -> str | None:
    """The split that the name of a file of many images tells: a folder, a word of its name, a word of a folder."""
    *folders, base = name.split("/")
    whole = next((split for folder in reversed(folders) if (split := split_of_folder(folder))), None)
    if whole:
        return whole
    for part in (posixpath.splitext(base)[0], *reversed(folders)):
        found = {SPLITS[word] for word in re.split(r"[^a-z]+", part.lower()) if word in SPLITS}
        if found:
            return found.pop() if len(found) == 1 else None  # train-val-0 says neither
    return None


def splits_of_files(
    names: Iterable[str], uri: str, *, find_splits: bool, has_images: Callable[[str], bool] = lambda name: True
) -> dict[str, str | None]:
    """File name -> split or None, in the given order, for all the Parquet files or tars of a source.

    Files that name no split beside others that do, and hold no images, are left out; ValueError when they hold some.
    """
    splits = {name: split_of_file(name) if find_splits else None for name in names}
    if any(splits.values()):
        for name in [name for name, split in splits.items() if split is None and not has_images(name)]:
            del splits[name]
        outside = [name for name, split in splits.items() if split is None]
        if outside:
            raise outside_error(uri, next(name for name, split in splits.items() if split), outside)
    if "val" not in splits.values():
        return {name: "val" if split == "test" else split for name, split in splits.items()}
    return splits


class FolderSplits:
    """The split and class of each image of a folder by its name; what comes first in a split, and in none, is noted."""

    def __init__(self, tally: Tally, *, find_splits: bool = True):
        self.tally, self.find_splits = tally, find_splits
        self.last: tuple[str, tuple[str | None, str | None, str | None]] | None = None

    def of(self, name: str) -> tuple[str | None, str | None, str | None]:
        """(split, folder that holds it where it is a test or val set, class) of the image of this name."""
        folder = name[: name.rfind("/") + 1]
        if self.last is None or self.last[0] != folder:
            self.last = (folder, self._find(folder.split("/")[:-1], name))
        return self.last[1]

    def _find(self, folders: list[str], name: str) -> tuple[str | None, str | None, str | None]:
        above = folders[:DEPTH]
        splits = [split_of_folder(folder) if self.find_splits else None for folder in above]
        depth = next((i for i, split in enumerate(splits) if split), -1)
        if depth < 0:
            self.tally.outside = self.tally.outside or (f"{above[0]}/" if above else name)
            return None, None, folders[0] if folders else None
        self.tally.inside = self.tally.inside or "/".join(above[: depth + 1]) + "/"
        split, classes = splits[depth], folders[depth + 1 :] or folders[:depth]
        place = "".join(f"{folder}/" for folder in above[:depth]) if split in ("test", "val") else None
        return split, place, classes[0] if classes else None


def served(met: Iterable[tuple[str | None, str | None]], uri: str, holds_val: Callable[[str], bool]) -> dict[str, str]:
    """Place of a test set -> what it serves as, for the (split, place) of all images in the order they are met.

    A test set without a val set beside it, or anywhere before it, serves as val. holds_val: (place) -> whether there is
    a val set that was not met. ValueError for a val set behind a test set that serves as one.
    """
    places = [(split, place) for split, place in met if place is not None]
    with_val = {place for split, place in places if split == "val"}
    has_val, tests = False, dict[str, str]()
    for split, place in places:
        if split == "val":
            has_val = True
            taken = next((test for test, as_what in tests.items() if as_what == "val"), None)
            if taken is not None:
                raise ValueError(
                    f"{uri} has a val set in {place or 'its top folder'!r} and none in {taken!r}, whose test set "
                    "would serve as val; expected the same splits everywhere; leave some out by source.exclude"
                )
        elif split == "test" and place not in tests:
            tests[place] = "test" if has_val or place in with_val or holds_val(place) else "val"
    return tests


def outside_error(uri: str, inside: str, outside: Sequence[str]) -> ValueError:
    """For images beside splits, and in none."""
    more = f" and {len(outside) - SHOWN} more" if len(outside) > SHOWN else ""
    named, first = ", ".join(map(repr, outside[:SHOWN])) + more, outside[0]
    pattern = f"{first}*" if first.endswith("/") else first
    return ValueError(
        f"{uri} has a split {inside!r} and beside it images in {named}; expected every image in a split; leave those "
        f"out with source.exclude='{pattern}', or set source.find_splits=false if the names are no splits"
    )
