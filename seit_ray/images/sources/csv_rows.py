"""Rows of a CSV file, and where it may be cut into slices that are read each for itself.

A line end may stand in quotes, and whether it does hangs on all that comes before it. So a file is read once, by the
reader that reads its slices too, to find the ends of rows: that costs little beside what is made of the rows.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from seit_ray.images.sources.division import File
from seit_ray.storage import Folder

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

SLICE_BYTES = 16 << 20  # of a piece: some 200,000 rows
LINE_BYTES = 16 << 20  # of one line, at most
BOM = b"\xef\xbb\xbf"

Span = tuple[int, int, int]  # first byte, the one behind the last, and the lines before them


class Bounded(io.RawIOBase):
    """Some bytes of a file, from where it stands."""

    def __init__(self, file: io.BufferedReader, size: int):
        self.file, self.left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The next ones; none at the end."""
        data = self.file.read(min(len(buffer), self.left))
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class Lines:
    """Lines of a file with their ends, as csv reads them; csv.Error for one without an end. length: of all so far."""

    def __init__(self, text: io.TextIOBase):
        self.read, self.length = partial(text.readline, LINE_BYTES), 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.read()
        if not line:
            raise StopIteration
        if len(line) == LINE_BYTES:
            raise csv.Error(f"a line of more than {LINE_BYTES} characters")
        self.length += len(line)
        return line


@contextlib.contextmanager
def csv_reader(folder: Folder, table: File, span: Span | None = None) -> Iterator[CsvReader]:
    """The rows of a file, header and all, or of a slice; ValueError that names the line for what is no CSV."""
    name, version = table.name, table.version or None
    first, stop, before = span or (0, 0, 0)
    with folder.open(name, version) as file:
        file.seek(first)
        raw = file if span is None else io.BufferedReader(Bounded(file, stop - first), 1 << 20)
        encoding = "utf-8" if first else "utf-8-sig"
        with io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
            reader = csv.reader(Lines(text))
            try:
                yield reader
            except (UnicodeDecodeError, csv.Error) as error:
                raise ValueError(
                    f"line {before + reader.line_num + 1} of {folder.uri_of(name)} cannot be read ({error}); "
                    "expected CSV in UTF-8; save it so"
                ) from error


def header_of(folder: Folder, table: File) -> list[str]:
    """The names of the columns."""
    with csv_reader(folder, table) as reader:
        return [cell.strip() for cell in next(reader, [])]


def slices_of(folder: Folder, table: File) -> list[Span]:
    """The slices of a file, in order; all of it where it is small. What is no CSV is in the last one, to be told there.

    Bytes are taken for characters, which those that csv looks for are in UTF-8 too.
    """
    size = folder.size(table.name) or 0
    if size <= SLICE_BYTES:
        return [(0, size, 0)]
    ends = [(0, 0)]  # byte and line
    with folder.open(table.name, table.version or None) as file:
        start = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(start)
        with io.TextIOWrapper(file, encoding="latin-1", newline="") as text, contextlib.suppress(csv.Error):
            lines = Lines(text)
            reader = csv.reader(lines)
            for _ in reader:
                if start + lines.length - ends[-1][0] >= SLICE_BYTES:
                    ends.append((start + lines.length, reader.line_num))
    if ends[-1][0] == size and len(ends) > 1:
        ends.pop()
    stops = [*(end for end, _ in ends[1:]), size]
    return [(first, stop, before) for (first, before), stop in zip(ends, stops, strict=True)]
