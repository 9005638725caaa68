"""Image files looked at many at a time: what is found is what each of them by itself would give."""

import random
from dataclasses import replace

import pytest

from seit_ray.images.sources import folders
from seit_ray.images.sources.division import PLAIN, Division, Piece, Seen, SeenRun, Tally
from seit_ray.images.sources.find import divide
from seit_ray.images.sources.folders import are_plain, folder_runs, seen, seen_by_runs
from seit_ray.images.sources.names import IMAGE_SUFFIXES
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, entry
from tests.images.made_sources import fill

NAMES = ("a.jpg", "b.JPG", "c.png", "d.txt", "e", ".f.jpg", "g..jpg", "é.jpg", "h.tar.jpg", "i.tar", "j.jpg.gz", "k.")
FOLDERS = ("", "cat/", "cat/deep/", "dog/", "dog.x/", ".hidden/", "__MACOSX/", "train/cat/", "test/", "größe/", "_w/")


def unrolled(found, root):
    for image in found:
        if not isinstance(image, SeenRun):
            yield image
            continue
        for name, size, version in zip(image.names, image.sizes, image.versions, strict=True):
            key = (name, root + name)
            yield Seen(*key, image.label, image.split, size, version, image.place, PLAIN)


@pytest.mark.parametrize("kind", ["folders", "flat"])
@pytest.mark.parametrize("seed", range(6))
def test_runs_hold_what_there_is(tmp_path, monkeypatch, seed, kind):
    chosen = random.Random(seed)
    source = Folder(tmp_path)
    names = [folder + name for folder in FOLDERS for name in NAMES]
    fill(source, *chosen.sample(names, 60), *(f"cat/{i:03}.jpg" for i in range(20)), "dog/empty.png")
    settings = SourceSettings(kind=kind)
    division = Division(
        kind, source, settings, (Piece(("", None)),), chosen="folders", weighed=("folders", "webdataset")
    )
    for chunk in (3, 7, 1000):
        monkeypatch.setattr(entry, "SOME", chunk)
        expected, found, runs = Tally(), Tally(), []
        images = list(seen(division, division.pieces[0], expected))
        runs = list(seen_by_runs(division, division.pieces[0], found))
        assert list(unrolled(runs, f"{source.uri}/")) == images
        assert found == expected
        assert chunk > 7 or any(isinstance(run, SeenRun) for run in runs)


@pytest.mark.parametrize(
    ("names", "is_plain"),
    [
        (["a.jpg", "b/c.PNG"], True),
        (["a.jpg", "b.txt"], False),
        (["a.jpg", "b"], False),
        (["a.jpg", "b.jpg/c"], False),
        (["a.jpg", "_work/b.jpg"], False),
        (["a.jpg", "b/.c.jpg"], False),
        ([".a.jpg"], False),
        (["a.jpg\nb.jpg", "c.jpg"], False),
        (["a.jpg\nb.txt", "c.jpg"], False),
        (["a..jpg"], False),
        (["ä.jpg"], False),
    ],
)
def test_names_that_need_no_look(names, is_plain):
    assert are_plain(names, IMAGE_SUFFIXES) == is_plain


def test_runs_end_with_their_folder():
    names = ["a", "b", "x/a", "x/b", "x/y/a", "x/z", "y/a"]
    assert list(folder_runs(names)) == [(0, 2), (2, 4), (4, 5), (5, 6), (6, 7)]
    assert list(folder_runs(["x/a", "x/b"])) == list(folder_runs(["a", "b"])) == [(0, 2)]
    assert list(folder_runs(["x/a", "xx/x/b"])) == [(0, 1), (1, 2)]


def test_patterns_and_pairs_ask_each_image(tmp_path):
    source = Folder(tmp_path)
    fill(source, "cat/1.jpg", "dog/2.jpg")
    division = divide(source)
    assert folders.has_runs(division, division.pieces[0])
    for settings in (SourceSettings(exclude=("x",)), SourceSettings(include=("*",)), SourceSettings(masks="masks")):
        assert not folders.has_runs(replace(division, settings=settings), division.pieces[0])
