"""Slices of a CSV file: together they have the rows that the file has, wherever line ends and quotes stand."""

import csv
import random

import pytest

from seit_ray.images.sources import csv_rows
from seit_ray.images.sources.csv_rows import csv_reader, slices_of
from seit_ray.images.sources.division import File
from seit_ray.storage import Folder
from tests.images.found import find_images

LIST = File("list.csv", "", None)
PARTS = ('"', '"', ",", "a", "\n", "\r\n", "\r", " ", "é", "猫", '""', "x,")


def rows_of(folder, span=None):
    with csv_reader(folder, LIST, span) as reader:
        return list(reader)


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("seed", range(40))
def test_any_text_has_the_same_rows_by_slices(tmp_path, monkeypatch, seed, bom):
    random_text = random.Random(seed)
    text = bom + "".join(random_text.choice(PARTS) for _ in range(400)) + random_text.choice(("", "\n", '"\n'))
    folder = Folder(tmp_path)
    folder.write(LIST.name, text.encode())
    expected = rows_of(folder)
    monkeypatch.setattr(csv_rows, "SLICE_BYTES", 30)
    spans = slices_of(folder, LIST)
    size = folder.size(LIST.name)
    assert [first for first, _, _ in spans] == [0, *(stop for _, stop, _ in spans[:-1])]
    assert spans[-1][1] == size
    assert all(first < stop for first, stop, _ in spans)
    assert [row for span in spans for row in rows_of(folder, span)] == expected


def test_a_file_of_plain_lines_is_cut_about_where_it_is_asked(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write(LIST.name, b"uri\n" + b"".join(b"%05d\n" % i for i in range(1000)))
    assert slices_of(folder, LIST) == [(0, 6004, 0)]
    monkeypatch.setattr(csv_rows, "SLICE_BYTES", 600)
    spans = slices_of(folder, LIST)
    assert len(spans) == 10
    assert spans[1] == (604, 1204, 101)


def test_an_error_in_a_slice_names_the_line_of_the_file(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write(LIST.name, b"uri,label\n" + b'"a\nb",c\n' * 50 + b"one\n" + b"a,b\n" * 50)
    monkeypatch.setattr(csv_rows, "SLICE_BYTES", 40)
    with pytest.raises(ValueError, match=r"line 102 of .* has 1 fields; expected 2 as in the header"):
        list(find_images(folder.join(LIST.name)))
    folder.write(LIST.name, b"uri,label\n" + b"a,c\n" * 50 + b"caf\xe9,b\n" + b"a,b\n" * 50)
    with pytest.raises(ValueError, match=r"line \d+ of .* cannot be read .*expected CSV in UTF-8"):
        list(find_images(folder.join(LIST.name)))


def test_a_line_without_an_end_is_not_held(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    monkeypatch.setattr(csv_rows, "LINE_BYTES", 1000)
    monkeypatch.setattr(csv_rows, "SLICE_BYTES", 600)
    folder.write(LIST.name, b"uri\na.jpg\n" + b"x" * 5000)
    assert slices_of(folder, LIST) == [(0, 5010, 0)]
    with pytest.raises(ValueError, match=r"line 3 of .* cannot be read .a line of more than 1000 characters"):
        list(find_images(folder.join(LIST.name)))
    assert csv.field_size_limit() > 1000  # else that would have been the reason
