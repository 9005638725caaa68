"""What a folder holds is seen while it is listed, once, and must be clear."""

import os
import uuid

import pytest

from seit_ray.images.sources import find, layout
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from seit_ray.storage.s3 import S3
from tests.images.found import find_images
from tests.images.made_sources import fill, listed, write_parquet
from tests.images.made_tars import sample, tar_bytes

MIB = 1 << 20


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def refusal(source, **settings):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is tested
        list(find_images(source, SourceSettings(**settings)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_banner_beside_parquet_files_does_not_count(source):
    source.write("assets/banner.png", bytes(1000))
    write_parquet(source, "data/train-0.parquet", {"image": [os.urandom(100_000) for _ in range(2)]})
    found = find_images(source)
    assert found.kind == "parquet"
    assert len(list(found)) == 2
    assert found.left_out == {".png": 1}


def test_a_parquet_file_of_numbers_beside_images_does_not_count(source):
    fill(source, "a/1.jpg", "b/2.jpg")
    write_parquet(source, "embeddings.parquet", {"embedding": [list(range(1000))]})
    write_parquet(source, "more.parquet", {"image": ["a/1.jpg"]})  # names of images
    source.write("old.parquet", b"PAR1 no PAR1")
    found = find_images(source)
    assert found.kind == "folders"
    assert listed(found) == [("a/1.jpg", "a", None), ("b/2.jpg", "b", None)]
    assert found.left_out == {".parquet": 3}


def test_the_output_of_img2dataset_is_read_as_tars(source):
    for number in range(2):
        source.write(f"0000{number}.tar", tar_bytes(sample(f"0000{number}0000", json='{"label": 1}', txt="a cat")))
        write_parquet(source, f"0000{number}.parquet", {"url": ["http://x"] * 900, "key": list(range(900))})
        source.write(f"0000{number}_stats.json", b"{}")
    found = find_images(source)
    assert found.kind == "webdataset"
    assert listed(found) == [(f"0000{n}.tar#0000{n}0000.jpg", 1, None) for n in range(2)]
    assert found.left_out == {".json": 2, ".parquet": 2}


def test_what_is_not_clear_is_an_error_that_offers_the_kinds(source):
    source.write("a/1.jpg", bytes(MIB))
    write_parquet(source, "a/0.parquet", {"image": [bytes(100)]})
    source.write("a.tar", tar_bytes(sample("a", image=bytes(2 * MIB))))
    error = refusal(source)
    assert "with tars (1 files, 2 MiB) and images (1 files, 1 MiB) and Parquet files of images (1 files, 0.00" in error
    assert "set source.kind to what it is (webdataset, folders, parquet), or point at the folder" in error
    assert [listed(find_images(source, SourceSettings(kind=kind)))[0][0] for kind in layout.WORDS] == [
        "a/1.jpg",
        "a/0.parquet#0",
        "a.tar#a.jpg",
    ]


def test_what_is_not_clear_in_a_long_listing_is_told_at_its_end(source, monkeypatch):
    monkeypatch.setattr(layout, "LOOK", 3)
    fill(source, *(f"a/{i}.jpg" for i in range(10)))
    write_parquet(source, "b/0.parquet", {"image": [bytes(100_000)]})
    monkeypatch.setattr(find, "HEAD_FILES", 5)
    found = find_images(source)
    assert found.kind == "folders"
    with pytest.raises(ValueError, match=r"set source\.kind"):
        list(found)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ([[1, 2, 3]], "is of type list<.*int64>; expected the bytes of encoded images .*convert the column to binary"),
        ([{"path": "a.jpg"}], r"is a struct of \['path'\]; expected the bytes of encoded images .*embed the images"),
        (["a.jpg"], "holds text; expected the bytes .*if it holds addresses, set source.kind=table and source.uri_co"),
    ],
)
def test_columns_that_hold_no_images_are_told_before_the_work(source, image, text):
    write_parquet(source, "a.parquet", {"image": image})
    with pytest.raises(ValueError, match=f"column 'image' in .*a.parquet {text}"):
        find_images(source)


def test_a_flat_bucket_is_listed_once(s3_server, monkeypatch):
    source = Folder(f"s3://{s3_server.create_bucket(f'flat-{uuid.uuid4().hex}')}", **s3_server.credentials)
    fill(source, *(f"{i}.jpg" for i in range(5)))
    asked, page = [], S3.page
    monkeypatch.setattr(S3, "page", lambda *given, **more: asked.append(more) or page(*given, **more))
    assert len(list(find_images(source))) == 5
    assert len(asked) == 1
