"""Which split an image goes to, and which number its label gets."""

import pytest

from seit_ray.images import load_manifest
from seit_ray.storage import Folder
from tests.images.found import ImageRecord, write_manifest
from tests.images.made_manifests import labels_of, records, rows_of, write


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "manifest")


def test_val_fraction(folder):
    rows = records(2000)
    manifest = write(folder, rows, val_fraction=0.2, seed=1, rows_per_part=256)
    val = {row["key"] for row in rows_of(manifest, "val")}
    assert 320 < len(val) < 480  # 400 +- 4 standard deviations
    assert manifest.splits["train"].num_images + len(val) == 2000
    again = write(folder, rows[::-1], val_fraction=0.2, seed=1, rows_per_part=256)
    assert {row["key"] for row in rows_of(again, "val")} == val  # whatever the order
    more = write(folder, rows, val_fraction=0.3, seed=1, rows_per_part=256)
    assert val < {row["key"] for row in rows_of(more, "val")}
    other = write(folder, rows, val_fraction=0.2, seed=2, rows_per_part=256)
    assert {row["key"] for row in rows_of(other, "val")} != val


def test_given_splits_are_kept(folder):
    manifest = write(folder, records(50, split="train") + records(5, split="extra"), val_fraction=0.9)
    assert {name: split.num_images for name, split in manifest.splits.items()} == {"extra": 5, "train": 50}


@pytest.mark.parametrize("val_fraction", [-0.1, 1, 1.5, float("nan")])
def test_val_fraction_is_checked(folder, val_fraction):
    with pytest.raises(ValueError, match=r"val_fraction .*expected 0 or more"):
        write(folder, [], val_fraction=val_fraction)


@pytest.mark.parametrize("split", ["../x", "_x", ".x", "a/b", "a b"])
def test_split_names_are_checked(folder, split):
    with pytest.raises(ValueError, match=r"split .*rename it"):
        write(folder, records(1, split=split))


def test_string_labels_are_numbered_in_sorted_order(folder):
    manifest = write(folder, records(8, labels=("pear", "apple", "fig", "Fig")))
    assert manifest.class_names == ["Fig", "apple", "fig", "pear"]
    assert labels_of(manifest) == [3, 1, 2, 0] * 2


def test_integer_labels_keep_their_value(folder):
    manifest = write(folder, records(6, labels=(7, 2, None)))
    assert manifest.class_names == [str(i) for i in range(8)]
    assert labels_of(manifest) == [7, 2, None] * 2


def test_integers_among_strings_are_names(folder):
    manifest = write(folder, records(6, labels=(10, "9", "x")))
    assert manifest.class_names == ["10", "9", "x"]
    assert labels_of(manifest) == [0, 1, 2] * 2


def test_no_labels(folder):
    for names in (None, ["cat"]):
        manifest = write(folder, records(6, labels=(None,)), class_names=names)
        assert manifest.class_names is None
        assert labels_of(manifest) == [None] * 6


def test_given_class_names(folder):
    names = ["dog", "cow", "cat"]
    manifest = write(folder, records(4, labels=("cat", "dog")), class_names=names)
    assert (manifest.class_names, labels_of(manifest)) == (names, [2, 0] * 2)
    manifest = write(folder, records(4, labels=(1, 2)), class_names=names)
    assert (manifest.class_names, labels_of(manifest)) == (names, [1, 2] * 2)


@pytest.mark.parametrize(
    ("labels", "names", "text"),
    [
        ((0, -1), None, "label -1; expected 0 to 1000000; number the classes"),
        ((0, 1_000_001), None, "label 1000001; expected 0 to 1000000"),
        ((0, 2), ["a", "b"], "label 2; expected 0 to 1"),
        (("a", "c"), ["a", "b"], "label 'c'; expected one of 2 class names"),
    ],
)
def test_labels_that_are_no_classes(folder, labels, names, text):
    write(folder, records(3))
    with pytest.raises(ValueError, match=text):
        write(folder, records(4, labels=labels), class_names=names)
    assert load_manifest(folder) is None  # neither the old listing nor half of the new one


def test_too_many_classes(folder, monkeypatch):
    monkeypatch.setattr("seit_ray.images.classes.MAX_LABEL", 9)
    with pytest.raises(ValueError, match=r"more than 9 different values.*set label_column"):
        write(folder, records(20, labels=[f"id{i}" for i in range(20)]))


@pytest.mark.parametrize(
    ("known", "labels", "names", "numbers"),
    [
        (["dog", "emu"], ["emu", "ant", "dog", "cat"], ["dog", "emu", "ant", "cat"], [1, 2, 0, 3]),
        (["0", "1"], [1, 4, 0], ["0", "1", "2", "3", "4"], [1, 4, 0]),
        (["0", "1"], [1, "cat"], ["0", "1", "cat"], [1, 2]),
        (["cat", "dog"], [7, 3], ["cat", "dog", "3", "7"], [3, 2]),
    ],
)
def test_known_classes_keep_their_numbers(tmp_path, known, labels, names, numbers):
    found = [ImageRecord(f"{i}", f"{i}", label, None, 1) for i, label in enumerate(labels)]
    manifest = write_manifest(found, Folder(tmp_path), val_fraction=0.0, seed=0, known_classes=known)
    assert manifest.class_names == names
    assert manifest.read_part("train", 0)["label"].to_pylist() == numbers


def test_class_names_of_the_source_must_begin_with_the_known_ones(tmp_path):
    found = [ImageRecord("0", "0", 2, None, 1)]
    options = {"val_fraction": 0.0, "seed": 0, "known_classes": ["a", "b"]}
    manifest = write_manifest(found, Folder(tmp_path), class_names=["a", "b", "c"], **options)
    assert manifest.class_names == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"expected those of before first, \['a', 'b'\]"):
        write_manifest(found, Folder(tmp_path), class_names=["b", "a", "c"], **options)
