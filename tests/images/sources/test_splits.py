"""Splits are found by names, the same way whatever the layout."""

import pytest

from seit_ray.images.sources.settings import SourceSettings
from seit_ray.images.sources.splits import split_of_file
from seit_ray.storage import Folder
from tests.images.found import find_images
from tests.images.made_sources import fill, listed, write_parquet
from tests.images.made_tars import sample, tar_bytes


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def splits_of(source, **settings):
    return {record.key: record.split for record in find_images(source, SourceSettings(**settings))}


def refusal(source, **settings):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is tested
        list(find_images(source, SourceSettings(**settings)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


CAT_AND_DOG = [f"{split}/{name}/1.jpg" for split in ("train", "val") for name in ("cat", "dog")]


def test_a_folder_without_images_beside_splits_does_not_count(source):
    fill(source, *CAT_AND_DOG, "annotations/boxes.json", "README.md", "annotations/deep/list.txt")
    found = find_images(source)
    assert listed(found) == [(key, key.split("/")[1], key.split("/")[0]) for key in CAT_AND_DOG]
    assert found.left_out == {".json": 1, ".md": 1, ".txt": 1}


@pytest.mark.parametrize("beside", ["extra/cat/1.jpg", "zebra/1.jpg", "0.jpg"])
def test_images_beside_splits_are_named(source, beside):
    fill(source, *CAT_AND_DOG, beside)
    place = f"{beside.split('/')[0]}/" if "/" in beside else beside
    error = refusal(source)
    assert f"has a split 'train/' and beside it images in '{place}'; expected every image in a split" in error
    pattern = f"{place}*" if "/" in place else place
    assert f"source.exclude='{pattern}'" in error
    assert "source.find_splits=false" in error
    assert set(splits_of(source, exclude=(pattern,))) == set(CAT_AND_DOG)
    assert set(splits_of(source, find_splits=False).values()) == {None}


@pytest.mark.parametrize(
    ("names", "splits", "labels"),
    [
        (["imagenet/train/cat/1.jpg", "imagenet/val/cat/1.jpg"], ["train", "val"], ["cat", "cat"]),
        (["cat/test/1.jpg", "cat/train/1.jpg", "dog/train/1.jpg"], ["val", "train", "train"], ["cat", "cat", "dog"]),
        (["train2017/1.jpg", "val2017/2.jpg"], ["train", "val"], [None, None]),
        (["testing/3/1.png", "training/3/1.png"], ["val", "train"], ["3", "3"]),
        (["dev/a/1.jpg", "test/a/1.jpg", "train/a/1.jpg"], ["val", "test", "train"], ["a"] * 3),
        (["train/test/1.jpg", "train/train/2.jpg"], ["train", "train"], ["test", "train"]),  # classes of CIFAR-100
        (["train_station/1.jpg", "test tube/2.jpg"], [None, None], ["train_station", "test tube"]),
        (["a/b/test/1.jpg", "a/b/c/2.jpg"], [None, None], ["a", "a"]),  # too deep to be meant
    ],
)
def test_folders_of_splits(source, names, splits, labels):
    fill(source, *names)
    assert sorted(listed(find_images(source))) == sorted(zip(names, labels, splits, strict=True))


def test_whether_test_serves_as_val_does_not_hang_on_the_order(source):
    fill(source, "test/a/1.jpg", "train/a/1.jpg", "val/notes.txt", "val/.hidden.jpg")
    assert splits_of(source) == {"test/a/1.jpg": "val", "train/a/1.jpg": "train"}
    fill(source, "Validation/_a/1.jpg")
    assert splits_of(source)["test/a/1.jpg"] == "test"


@pytest.mark.parametrize("val", ["val", "val2017", "VAL", "Validation", "valid_2019", "Dev"])
@pytest.mark.parametrize("place", ["", "coco/"])
def test_a_limit_finds_the_val_set_that_a_whole_listing_finds(source, place, val):
    fill(source, *(f"{place}Test/a/{number}.jpg" for number in range(3)), f"{place}{val}/notes.txt")
    assert set(splits_of(source, limit=2).values()) == {"val"}
    fill(source, f"{place}{val}/a/_1.jpg", f"{place}train/a/1.jpg")
    assert splits_of(source)[f"{place}Test/a/1.jpg"] == "test"
    assert splits_of(source, limit=2).get(f"{place}Test/a/1.jpg", "test") == "test"  # Dev comes before it


def test_a_limit_looks_for_the_val_set_in_the_inventory(source):
    fill(source, "test/a/1.jpg", "val/a/1.jpg")
    for names, split in ((["test/a/1.jpg"], "val"), (["test/a/1.jpg", "val/b/2.jpg"], "test")):
        source.write("list.csv", "\n".join(["key,size", *(f"{name},1" for name in names)]).encode())
        settings = {"inventory": source.uri_of("list.csv"), "limit": 1}
        assert splits_of(source, **settings) == {"test/a/1.jpg": split}


def test_a_val_set_that_comes_after_a_test_set_served_as_one_is_told(source):
    fill(source, "cat/test/1.jpg", "dog/val/1.jpg")
    assert "has a val set in 'dog/' and none in 'cat/', whose test set would serve as val" in refusal(source)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("imagenet_train_0.parquet", "train"),
        ("imagenet_test_0.parquet", "test"),
        ("default/test/0000.parquet", "test"),
        ("data/train-00000-of-00012.parquet", "train"),
        ("in1k-validation-0000.tar", "val"),
        ("val2017.tar", "val"),
        ("imagenet-train/0000.tar", "train"),
        ("test_project/train-1.tar", "train"),
        ("train-val-0.tar", None),
        ("constraint.tar", None),
        ("00000.tar", None),
    ],
)
def test_words_in_the_names_of_files(name, split):
    assert split_of_file(name) == split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["imagenet_train_0", "imagenet_test_0"], ["train", "val"]),
        (["default/train/0000", "default/test/0000"], ["train", "val"]),
        (["a/train-0", "a/valid-0", "a/test-0"], ["train", "val", "test"]),
        (["x-0", "x-1"], [None, None]),
    ],
)
def test_parquet_and_tars_alike(source, names, splits):
    for name in names:
        write_parquet(source.join("rows"), f"{name}.parquet", {"image": [b"i"]})
        source.join("tars").write(f"{name}.tar", tar_bytes(sample("a", cls="1")))
    for kind, suffix in (("rows", "parquet"), ("tars", "tar")):
        found = {record.key.partition("#")[0]: record.split for record in find_images(source.join(kind))}
        assert found == {f"{name}.{suffix}": split for name, split in zip(names, splits, strict=True)}
        assert len(list(find_images(source.join(kind), SourceSettings(find_splits=False)))) == len(names)


def test_files_of_images_beside_splits_are_named(source):
    write_parquet(source.join("rows"), "train-0.parquet", {"image": [b"i"]})
    write_parquet(source.join("rows"), "more.parquet", {"image": [b"i"]})
    for name in ("x-train", "x-0"):
        source.join("tars").write(f"{name}.tar", tar_bytes(sample("a")))
    assert "beside it images in 'more.parquet'" in refusal(source.join("rows"))
    assert "has a split 'x-train.tar' and beside it images in 'x-0.tar'" in refusal(source.join("tars"))
    assert splits_of(source.join("tars"), exclude=("x-0.tar",)) == {"x-train.tar#a.jpg": "train"}


def test_a_parquet_file_without_images_beside_splits_does_not_count(source):
    write_parquet(source, "train-0.parquet", {"image": [b"i"]})
    write_parquet(source, "metadata.parquet", {"caption": ["a cat"]})
    found = find_images(source)
    assert listed(found) == [("train-0.parquet#0", None, "train")]
    assert found.left_out == {".parquet without a column of images": 1}


@pytest.mark.parametrize(("cells", "splits"), [("train,test", "train,val"), ("test,train,dev", "test,train,val")])
def test_columns_of_splits(source, cells, splits):
    cells, splits = cells.split(","), splits.split(",")
    names = [f"{i}.jpg" for i in range(len(cells))]
    source.write("a.csv", "\n".join(["uri,split", *(f"{n},{c}" for n, c in zip(names, cells, strict=True))]).encode())
    write_parquet(source, "a.parquet", {"uri": names, "split": cells})
    write_parquet(source.join("rows"), "b.parquet", {"image": [b"i"] * len(cells), "split": cells})
    for place in (source.join("a.csv"), source.join("a.parquet"), source.join("rows")):
        assert [record.split for record in find_images(place)] == splits
