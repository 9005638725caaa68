"""What the classes of a source say of a mistake, before any work."""

import pytest

from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.made_sources import fill


def notes_of(tmp_path, *names, is_enough=lambda number: False, **settings):
    fill(Folder(tmp_path / "source"), *names)
    manifest = list_images(
        Folder(tmp_path / "source"),
        SourceSettings(**settings),
        Folder(tmp_path / "list"),
        val_fraction=0.0,
        seed=0,
        is_enough=is_enough,
    )
    return manifest.notes


CLASSES = ["train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg"]


def test_usual_sources_have_no_notes(tmp_path):
    assert notes_of(tmp_path, *CLASSES, "val/a/1.jpg", "val/b/1.jpg") == []


def test_one_class_in_all(tmp_path):
    (note,) = notes_of(tmp_path, "photos/cat/1.jpg", "photos/dog/1.jpg")
    assert note == "one class in all, 'photos': if it is none, point at the folder of the class folders"


def test_classes_that_train_lacks(tmp_path):
    (note,) = notes_of(tmp_path, *CLASSES, "val/a/1.jpg", "val/x/1.jpg", "val/y/1.jpg")
    assert note == "val has 2 classes that train lacks: 'x', 'y'"


def test_a_split_of_one_class(tmp_path):
    assert notes_of(tmp_path, *CLASSES, "val/a/1.jpg") == ["val has one class only, 'a', and train 3"]
    (tmp_path / "more").mkdir()
    found = notes_of(tmp_path / "more", *CLASSES, "val/a/1.jpg", "val/b/1.jpg", "test/images/1.jpg")
    assert found == ["test has one class only, 'images', and train 3"]


def test_nothing_in_common_is_an_error(tmp_path):
    text = r"has the classes 'a', 'b', 'c', val 'images'; expected classes in common; .*source.kind=flat"
    with pytest.raises(ValueError, match=text):
        notes_of(tmp_path, *CLASSES, "val/images/1.jpg")
    assert notes_of(tmp_path, *CLASSES, "val/images/1.jpg", kind="flat") == []


def test_nothing_is_said_of_the_beginning_of_a_listing(tmp_path):
    assert notes_of(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", is_enough=lambda number: number >= 2) == []


def test_nothing_is_said_of_a_limited_listing(tmp_path):
    (note,) = notes_of(tmp_path, *CLASSES, "val/a/1.jpg", limit=2)
    assert note.startswith("only the first 2 images")
