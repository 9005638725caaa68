"""Names for classes from a file."""

import json

import pytest

from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.found import find_images
from tests.images.made_sources import fill, write_parquet


@pytest.fixture
def source(tmp_path):
    fill(Folder(tmp_path / "source"), "n01440764/1.jpg", "n01443537/2.jpg")
    return Folder(tmp_path / "source")


def classes_of(tmp_path, source, text):
    """(class names, label of each image in turn) with a file of names."""
    names = tmp_path / "names"
    names.write_text(text if isinstance(text, str) else json.dumps(text))
    settings = SourceSettings(class_names=str(names))
    manifest = list_images(source, settings, Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    return manifest.class_names, manifest.read_part("train", 0)["label"].to_pylist()


@pytest.mark.parametrize(
    "text",
    [
        {"n01440764": "tench", "n01443537": "goldfish", "n9": "other"},
        {"n01440764": ["n01440764", "tench"], "n01443537": ["n01443537", "goldfish"]},
        "n01440764 tench\nn01443537\tgoldfish\n",
        "n01440764\ttench\nn01443537\tgoldfish\n",
    ],
)
def test_a_name_for_each_folder(tmp_path, source, text):
    assert classes_of(tmp_path, source, text) == (["goldfish", "tench"], [1, 0])


@pytest.mark.parametrize("text", ["tench\ngreat white shark\n\n", ["tench", "great white shark"]])
def test_names_in_the_order_of_numbers(tmp_path, source, text):
    source.write("a.csv", b"uri,label\n1.jpg,1\n2.jpg,0\n")
    assert classes_of(tmp_path, source.join("a.csv"), text) == (["tench", "great white shark"], [1, 0])
    with pytest.raises(ValueError, match="label 'n01440764'; expected one of 2 class names"):
        classes_of(tmp_path, source, text)


def test_names_of_hugging_face_are_replaced(tmp_path):
    features = {"label": {"_type": "ClassLabel", "names": ["n1", "n2"]}}
    rows = Folder(tmp_path / "rows")
    write_parquet(rows, "a.parquet", {"image": [b"i"] * 2, "label": [1, 0]}, features)
    assert classes_of(tmp_path, rows, {"n1": "cat", "n2": "dog"}) == (["cat", "dog"], [1, 0])
    assert classes_of(tmp_path, rows, ["dog", "cat"]) == (["dog", "cat"], [1, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"n01440764": "tench"}, r"label 'n01443537' has no name in \S+names; expected one of 1: 'n01440764', ..."),
        ({"n01440764": "crane", "n01443537": "crane"}, r"name several classes 'crane'; expected a name of its own"),
        ("a\nb\na\n", "name several classes 'a'"),
        ("{", r"class names \S+names cannot be read \("),
        ("[1]", "1 is no name"),
        ("", "no names"),
        ("a\n\nb\n", r"line 2 is empty, so that the number of each name behind it is not clear"),
    ],
)
def test_files_that_do_not_name_classes(tmp_path, source, text, message):
    with pytest.raises(ValueError, match=message):
        classes_of(tmp_path, source, text)


def test_a_file_that_is_not_there(source):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        find_images(source, SourceSettings(class_names="nowhere"))
