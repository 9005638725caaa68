"""What the name of a file says: its kind, and whether it is hidden; keys in one form of Unicode."""

from __future__ import annotations

import posixpath
import unicodedata

# What `decode_image` reads; avif where Pillow has its decoder, else a reject that says so.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}
)
NO_SUFFIX = "no suffix"
OURS = frozenset({"_work", "_lock.json"})  # what a job of ours keeps in its output while it runs


# names without them, most of all, are not looked at part by part
_MARKS = ("/.", "__MACOSX", *sorted(OURS))


def suffix_of(name: str) -> str:
    """The last suffix of a name with its dot, in small letters; '' for none."""
    dot = name.rfind(".")
    if dot <= 0 or "/" in (rest := name[dot:]):
        return ""
    if name[dot - 1] in "./":  # dots at the beginning of a name are no suffix
        return posixpath.splitext(name)[1].lower()
    return rest.lower()


def kind_of(name: str) -> str:
    """What a file that is left out is counted as: its suffix."""
    return suffix_of(name) or NO_SUFFIX


def is_hidden(name: str) -> bool:
    """Whether a part of a name begins with a dot, or is what a system or a job of ours leaves beside the images."""
    if not (name.startswith(".") or any(mark in name for mark in _MARKS)):
        return False
    return any(part.startswith(".") or part == "__MACOSX" or part in OURS for part in name.split("/"))


def none_is_hidden(text: str) -> bool:
    """False where one of some names may be hidden, which are looked at together; text: a line break before each."""
    return "\n." not in text and not any(mark in text for mark in _MARKS)


def one_form(text: str) -> str:
    """The text in Unicode's composed form: an accented letter may be stored as one character or as two."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def chosen_suffixes(suffixes: tuple[str, ...] | None) -> frozenset[str]:
    """Suffixes of images, with their dots and in small letters; '' stands for names without one."""
    if suffixes is None:
        return IMAGE_SUFFIXES
    return frozenset(f".{text.lower().lstrip('.')}" if text else "" for text in suffixes)
