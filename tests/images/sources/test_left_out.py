"""Which files are images, and that whatever else was seen is counted."""

import os

import pytest
from PIL import Image

from seit_ray.images import fetch_images
from seit_ray.images.listing import left_out_words, list_images
from seit_ray.images.sources.names import IMAGE_SUFFIXES
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, local_files
from tests.images.found import find_images
from tests.images.made_sources import fill
from tests.images.pictures import encoded, quadrants


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def found_of(source, **settings):
    found = find_images(source, SourceSettings(**settings))
    return [record.key for record in found], dict(found.left_out)


def test_names_that_begin_with_a_line_are_images(source):
    fill(source, "cat/_MG_1.JPG", "dog/_DSC2.jpg", "_background_/1.jpg")
    assert [(r.key, r.label) for r in find_images(source)] == [
        ("_background_/1.jpg", "_background_"),
        ("cat/_MG_1.JPG", "cat"),
        ("dog/_DSC2.jpg", "dog"),
    ]


def test_hidden_files_are_no_images_and_not_counted(source):
    fill(source, "a/1.jpg", "a/.2.jpg", ".git/3.jpg", "__MACOSX/a/1.jpg", "a/.DS_Store", "_work/4.jpg", "_lock.json")
    assert found_of(source) == (["a/1.jpg"], {})


def test_what_is_read_is_listed_whatever_its_suffix_and_the_rest_is_counted(source):
    fill(source, *(f"x/{name}" for name in ("a.jfif", "b.JPE", "c.pgm", "d.heic", "e", "f.HEIC", "g.jpg", "h.txt")))
    found, left_out = found_of(source)
    assert found == ["x/a.jfif", "x/b.JPE", "x/c.pgm", "x/g.jpg"]
    assert left_out == {".heic": 2, "no suffix": 1, ".txt": 1}


def test_every_suffix_of_the_formats_that_are_decoded_is_listed():
    Image.init()
    formats = {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "MPO"}
    known = {suffix for suffix, name in Image.EXTENSION.items() if name in formats}
    assert known - IMAGE_SUFFIXES == {".avifs"}  # films


def test_suffixes_of_ones_own(source):
    fill(source, "a/1.jpg", "a/2.dat", "a/3")
    assert found_of(source, suffixes=("dat", "")) == (["a/2.dat", "a/3"], {".jpg": 1})
    assert found_of(source, suffixes=(".JPG",)) == (["a/1.jpg"], {".dat": 1, "no suffix": 1})


def test_a_bucket_of_names_without_suffixes(source):
    data = encoded(quadrants())
    source.write("00ff", data)
    with pytest.raises(ValueError, match=r"with 1 of no suffix; .*source.suffixes=\[''\] reads files without a suffix"):
        find_images(source)
    (record,) = find_images(source, SourceSettings(suffixes=("",)))
    assert fetch_images([(record.key, record.uri)], source) == [data]


def test_one_image_is_a_source(source):
    fill(source, "a/cat.jpg", "a/dog.jpg")
    assert found_of(source.join("a", "cat.jpg")) == (["cat.jpg"], {})
    with pytest.raises(ValueError, match=r"kind 'parquet' for .*cat.jpg; expected folders"):
        found_of(source.join("a", "cat.jpg"), kind="parquet")


def test_a_name_that_is_not_utf8_is_counted(source):
    fill(source, "a/1.jpg")
    with open(os.fsencode(source.uri) + b"/a/\xff.jpg", "wb"):
        pass
    assert found_of(source) == (["a/1.jpg"], {"name that is not UTF-8": 1})


def test_a_file_that_goes_while_it_is_listed_is_counted(source, monkeypatch):
    fill(source, "a/1.jpg", "a/2.jpg", "a/3.jpg")
    entry_of = local_files._entry

    def goes(root, name):
        if name == "a/2.jpg":
            source.delete(name)
        return entry_of(root, name)

    monkeypatch.setattr(local_files, "_entry", goes)
    assert found_of(source) == (["a/1.jpg", "a/3.jpg"], {"vanished": 1})


def test_patterns(source):
    fill(source, "cat/1.jpg", "cat/2.png", "dog/1.jpg", "x.txt")
    excluded = "excluded by source.include or source.exclude"
    assert found_of(source, include=("cat/*",)) == (["cat/1.jpg", "cat/2.png"], {excluded: 1, ".txt": 1})
    assert found_of(source, exclude=("*.png", "dog/*")) == (["cat/1.jpg"], {excluded: 2, ".txt": 1})
    source.write("a.csv", b"uri\ncat/1.jpg\ndog/1.jpg\n")
    assert found_of(source.join("a.csv"), include=("dog/*",)) == (["dog/1.jpg"], {excluded: 1})


def test_a_limit_takes_the_first_and_says_so(source):
    fill(source, *(f"{i}.jpg" for i in range(5)))
    found = find_images(source, SourceSettings(limit=3))
    assert [record.key for record in found] == ["0.jpg", "1.jpg", "2.jpg"]
    assert found.notes == ("only the first 3 images of the listing (source.limit)",)


def test_the_manifest_keeps_what_was_left_out(tmp_path, source):
    fill(source, "a/1.jpg", "a/2.heic", "b.txt", "c.txt", "b/1.jpg")
    notes = []
    manifest = list_images(
        source,
        SourceSettings(limit=1),
        Folder(tmp_path / "list"),
        val_fraction=0.0,
        seed=0,
        on_progress=lambda *told: notes.append(told[3]),
    )
    assert manifest.notes[0] in notes
    manifest = list_images(source, SourceSettings(), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    assert manifest.left_out == {".heic": 1, ".txt": 2}
    assert left_out_words(manifest.left_out) == "2 .txt, 1 .heic"


def test_pipes_are_counted(tmp_path):
    source = Folder(tmp_path / "source")
    fill(source, "cat/1.jpg")
    os.mkfifo(tmp_path / "source" / "cat" / "2.jpg")
    assert found_of(source) == (["cat/1.jpg"], {"pipe, socket or device": 1})


def test_nothing_but_what_is_left_out(tmp_path, source):
    fill(source, "a/1.jpg", "b.txt")
    with pytest.raises(ValueError, match=r"no images in \S+ \(left out: 1 .txt, 1 excluded by .*source.exclude"):
        list_images(source, SourceSettings(exclude=("*",)), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
