"""find_images on folders of files, and how it chooses a kind; once on S3."""

import hashlib
import itertools
import uuid

import pytest

from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError
from tests.images.found import ImageRecord, find_images
from tests.images.made_sources import fill, listed, write_parquet


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def test_a_folder_per_class(source):
    fill(source, "dog/2.PNG", "dog/1.jpg", "cat/deep/er/3.jpeg", "cat/notes.txt", "README.md", ".cache/4.jpg")
    found = find_images(source)
    assert found.kind == "folders"
    assert found.class_names is None
    times = {entry.name: entry.modified for entry in source.list()}
    assert list(found) == [
        ImageRecord(name, f"{source.uri}/{name}", name[:3], None, size_bytes, times[name])
        for name, size_bytes in (("cat/deep/er/3.jpeg", 18), ("dog/1.jpg", 9), ("dog/2.PNG", 9))
    ]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "JPG", "TiFF"])
def test_image_suffixes(source, suffix):
    fill(source, f"a/1.{suffix}", "a/2.npy", "a/jpg", "a/3.jpg.txt")
    assert listed(find_images(source)) == [(f"a/1.{suffix}", "a", None)]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["train"], {"train": "train"}),
        (["train", "val"], {"train": "train", "val": "val"}),
        (["train", "valid"], {"train": "train", "valid": "val"}),
        (["Train", "Validation"], {"Train": "train", "Validation": "val"}),
        (["train", "test"], {"train": "train", "test": "val"}),
        (["train", "val", "test"], {"train": "train", "val": "val", "test": "test"}),
        (["train", "validation", "test"], {"train": "train", "validation": "val", "test": "test"}),
    ],
)
def test_split_folders(source, folders, splits):
    fill(source, *(f"{folder}/{name}/1.jpg" for folder in folders for name in ("cat", "dog")))
    expected = [(f"{f}/{name}/1.jpg", name, splits[f]) for f in sorted(folders) for name in ("cat", "dog")]
    assert listed(find_images(source)) == expected


def test_a_class_named_train_among_others_is_a_class_when_asked(source):
    fill(source, "train/1.jpg", "bus/2.jpg")
    found = find_images(source, SourceSettings(find_splits=False))
    assert listed(found) == [("bus/2.jpg", "bus", None), ("train/1.jpg", "train", None)]


def test_flat(source):
    fill(source, "1.jpg", "2.jpg")
    assert listed(find_images(source)) == [("1.jpg", None, None), ("2.jpg", None, None)]


def test_flat_splits(source):
    fill(source, "train/1.jpg", "val/2.jpg")
    assert listed(find_images(source)) == [("train/1.jpg", None, "train"), ("val/2.jpg", None, "val")]


def test_flat_ignores_folders_when_asked(source):
    fill(source, "a/1.jpg", "b/2.jpg")
    found = find_images(source, SourceSettings(kind="flat"))
    assert listed(found) == [("a/1.jpg", None, None), ("b/2.jpg", None, None)]


def test_images_beside_class_folders_have_no_label(source):
    fill(source, "0.jpg", "a/1.jpg")
    assert listed(find_images(source)) == [("0.jpg", None, None), ("a/1.jpg", "a", None)]


def test_a_sample_looks_no_further(source, tmp_path, monkeypatch):
    fill(source, "a/1.jpg")
    some, plain = next(source.list_some()), Folder.list_some
    endless = lambda self, **options: itertools.repeat(some) if self == source else plain(self, **options)  # noqa: E731
    monkeypatch.setattr(Folder, "list_some", endless)
    sample = {"val_fraction": 0.0, "seed": 0, "is_enough": lambda number: number == 1500}
    for kind in ("auto", "folders"):
        manifest = list_images(source, SourceSettings(kind=kind), Folder(tmp_path / kind), **sample)
        assert manifest.splits["train"].num_images == 1500
    assert len(list(find_images(source, SourceSettings(limit=5)))) == 5


def md5(content):
    """The ETag of an object."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_on_s3(s3_server):
    bucket = s3_server.create_bucket(f"sources-{uuid.uuid4().hex}")
    source = Folder(f"s3://{bucket}/data", **s3_server.credentials)
    fill(source, "train/a/1.jpg", "test/b/2.jpg", "train/.hidden/3.jpg")
    source.write("list.csv", b"uri,label\ntrain/a/1.jpg,x\n../data/test/b/2.jpg,y\ns3://other/k.jpg,z\n")
    write_parquet(source.at(f"s3://{bucket}/rows"), "train-0.parquet", {"image": [b"1", b"2"], "label": [0, 1]})
    assert list(find_images(source)) == [
        ImageRecord("test/b/2.jpg", f"s3://{bucket}/data/test/b/2.jpg", "b", "val", 12, md5(b"test/b/2.jpg")),
        ImageRecord("train/a/1.jpg", f"s3://{bucket}/data/train/a/1.jpg", "a", "train", 13, md5(b"train/a/1.jpg")),
    ]
    assert [record.uri for record in find_images(source.join("list.csv"))] == [
        f"s3://{bucket}/data/train/a/1.jpg",
        f"s3://{bucket}/data/test/b/2.jpg",
        "s3://other/k.jpg",
    ]
    assert listed(find_images(source.at(f"s3://{bucket}/rows"))) == [
        ("train-0.parquet#0", 0, "train"),
        ("train-0.parquet#1", 1, "train"),
    ]
    with pytest.raises(StorageError, match="nowhere does not exist"):
        find_images(source.join("nowhere"))


def test_auto_explains_when_nothing_fits(source):
    fill(source, "a.txt", "b.txt", "c.npy", "LICENSE")
    with pytest.raises(ValueError, match=r"with 2 of .txt, 1 of no suffix, 1 of .npy; expected images \(.apng .avif"):
        find_images(source)


def test_auto_on_an_empty_and_on_a_missing_folder(source, tmp_path):
    with pytest.raises(StorageError, match="does not exist"):
        find_images(source)
    (tmp_path / "source").mkdir()
    with pytest.raises(ValueError, match="with no files; expected images"):
        find_images(source)


@pytest.mark.parametrize("kind", ["folders", "flat", "parquet"])
def test_an_empty_folder_is_no_error_for_a_named_kind(source, kind):
    assert list(find_images(source, SourceSettings(kind=kind))) == []


def test_kinds_that_do_not_fit(source):
    fill(source, "a/1.jpg")
    source.write("list.csv", b"uri\na/1.jpg\n")
    table = source.join("list.csv")
    with pytest.raises(ValueError, match=r"kind 'folder'; expected one of \['auto'"):
        find_images(source, SourceSettings(kind="folder"))
    with pytest.raises(ValueError, match=r"is a folder; expected a .csv or .parquet file"):
        find_images(source, SourceSettings(kind="table"))
    for kind in ("folders", "flat", "parquet"):
        with pytest.raises(ValueError, match=f"kind '{kind}' for .*list.csv; expected table"):
            find_images(table, SourceSettings(kind=kind))


def test_a_folder_named_like_a_file_is_a_folder(source):
    write_parquet(source.join("rows.parquet"), "part-0.parquet", {"image": [b"i"]})
    assert listed(find_images(source.join("rows.parquet"))) == [("part-0.parquet#0", None, None)]
