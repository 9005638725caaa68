"""Splits by name, the same way for folders of images, Parquet files, tars and tables.

A name of a split is one whatever lies beside it; images that lie beside splits, and in none, are an error that names
them. A test set without a val set serves as val.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
DEPTH = 2  # folders of an image that may be its split: 'train/cat/', or 'imagenet/train/cat/', 'cat/train/'
SHOWN = 3
_YEAR = re.compile(r"[-_ ]?(19|20)\d\d$")  # train2017
VAL_FOLDERS = tuple(form for name, split in SPLITS.items() if split == "val" for form in (name, name.title()))


def split_name(value: object) -> str | None:
    """The split that a table's cell names; None for an empty one."""
    text = str(value).strip() if value is not None else ""
    return SPLITS.get(text.lower(), text) or None


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
    """The split of each image of a folder, found while the folder is listed, in the order of the names.

    has_images: (prefix) -> whether there are any below it; asked once, for val, where a test set is met.
    """

    def __init__(self, uri: str, has_images: Callable[[str], bool], *, find_splits: bool = True):
        self.uri, self.has_images, self.find_splits = uri, has_images, find_splits
        self.inside: str | None = None  # the first folder that is a split
        self.outside: str | None = None  # the first folder, or image, in no split
        self.has_val = False
        self.tests: dict[str, str] = {}  # folder above a test set -> what that serves as
        self.last: tuple[Sequence[str], tuple[str | None, int]] | None = None

    def split(self, folders: Sequence[str], name: str) -> tuple[str | None, str | None]:
        """(split, class) of the image of this name in these folders; ValueError for images beside splits."""
        above = folders[:DEPTH]
        if self.last is None or self.last[0] != above:
            self.last = (above, self._find(above, name))
        split, depth = self.last[1]
        classes = folders if split is None else folders[depth + 1 :] or folders[:depth]
        return split, classes[0] if classes else None

    def _find(self, above: Sequence[str], name: str) -> tuple[str | None, int]:
        splits = [split_of_folder(folder) if self.find_splits else None for folder in above]
        depth = next((i for i, split in enumerate(splits) if split), -1)
        if depth < 0:
            self.outside = self.outside or (f"{above[0]}/" if above else name)
        else:
            self.inside = self.inside or "/".join(above[: depth + 1]) + "/"
        if self.inside and self.outside:
            raise outside_error(self.uri, self.inside, [self.outside])
        if depth < 0:
            return None, -1
        return self._served(splits[depth], "".join(f"{folder}/" for folder in above[:depth])), depth

    def _served(self, split: str | None, above: str) -> str | None:
        """The split that a split of the folder `above` serves as."""
        if split == "val":
            self.has_val = True
            taken = next((place for place, served in self.tests.items() if served == "val"), None)
            if taken is not None:
                raise ValueError(
                    f"{self.uri} has a val set in {above or 'its top folder'!r} and none in {taken!r}, whose test set "
                    "would serve as val; expected the same splits everywhere; leave some out by source.exclude"
                )
        if split != "test":
            return split
        if above not in self.tests:
            has_val = self.has_val or any(self.has_images(f"{above}{name}/") for name in VAL_FOLDERS)
            self.tests[above] = "test" if has_val else "val"
        return self.tests[above]


def outside_error(uri: str, inside: str, outside: Sequence[str]) -> ValueError:
    """For images beside splits, and in none."""
    more = f" and {len(outside) - SHOWN} more" if len(outside) > SHOWN else ""
    named, first = ", ".join(map(repr, outside[:SHOWN])) + more, outside[0]
    pattern = f"{first}*" if first.endswith("/") else first
    return ValueError(
        f"{uri} has a split {inside!r} and beside it images in {named}; expected every image in a split; leave those "
        f"out with source.exclude='{pattern}', or set source.find_splits=false if the names are no splits"
    )
