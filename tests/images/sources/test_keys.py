"""What images are called: the same whatever lies before them, each name once, repeats together in one split."""

import pyarrow as pa
import pytest

from seit_ray.images.known import ADDED, KnownImages
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.found import find_images, rows_of, write_manifest
from tests.images.made_manifests import keep_known
from tests.images.made_sources import fill, listed, write_parquet
from tests.images.made_tars import tar_bytes

HOLD_OUT = {"val_fraction": 0.3, "seed": 0}


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def keys_of(source, **settings):
    return [record.key for record in find_images(source, SourceSettings(**settings))]


def changes(tmp_path, source, change, **settings):
    """(added, removed) of what a source lists after a change, beside what it listed before."""
    settings = SourceSettings(**settings)
    dataset = Folder(tmp_path / "dataset")
    manifest = write_manifest(find_images(source, settings), dataset.join("manifest"), **HOLD_OUT)
    known = KnownImages(dataset, keep_known(manifest, dataset))
    change()
    found = rows_of(find_images(source, settings))
    kinds = [kind for rows in found for kind in known.kinds_of(rows.held_out(**HOLD_OUT)).tolist()]
    return kinds.count(ADDED), len(list(known.removed()))


def table(*names):
    return "\n".join(["uri,label", *(f"{name},0" for name in names)]).encode()


NAMES = [f"{i}.jpg" for i in range(30)]


def test_a_row_on_top_of_a_table_is_one_image_added(tmp_path, source):
    source.write("a.csv", table(*NAMES))
    place = source.join("a.csv")
    assert changes(tmp_path, place, lambda: source.write("a.csv", table("new.jpg", *NAMES[::-1]))) == (1, 0)


def test_a_row_on_top_of_a_parquet_table_is_one_image_added(tmp_path, source):
    write_parquet(source, "a.parquet", {"uri": NAMES})
    more = {"uri": ["new.jpg", *NAMES]}
    assert changes(tmp_path, source.join("a.parquet"), lambda: write_parquet(source, "a.parquet", more)) == (1, 0)


@pytest.mark.parametrize("column", ["id", ""])
def test_rows_of_images_with_an_id_or_a_path_keep_their_keys(tmp_path, source, column):
    def write(numbers, parts):
        for entry in list(source.list()):
            source.delete(entry.name)
        for part in range(parts):
            mine = numbers[part::parts]
            image = pa.array([{"bytes": b"i", "path": f"{n}.jpg"} for n in mine])
            write_parquet(source, f"data/train-{part:05}-of-{parts:05}.parquet", {"image": image, "id": mine})

    write(list(range(20)), 2)
    moved = changes(tmp_path, source, lambda: write([99, *range(20)], 3), key_column=column)
    assert moved == (1, 0)


def test_rows_without_names_count_on_over_numbered_files(source):
    for name, rows in (("train-00000-of-00002", 3), ("train-00001-of-00002", 2), ("other-1", 1)):
        write_parquet(source, f"{name}.parquet", {"image": [b"i"] * rows})
    expected = ["other-1.parquet#0", *(f"train.parquet#{i}" for i in range(5))]
    assert keys_of(source, find_splits=False) == expected


def test_numbered_files_beside_one_of_their_name_are_called_as_they_are(tmp_path, source):
    names = ["a.parquet", "train.parquet", "train-00000-of-00001.parquet", "a-0-of-2.parquet", "b-0-of-1.parquet"]
    for name in names:
        write_parquet(source, name, {"image": [b"i"] * 2})
    expected = {f"{name.replace('b-0-of-1', 'b')}#{row}" for name in names for row in range(2)}
    assert set(keys_of(source, find_splits=False)) == expected
    assert len(keys_of(source, find_splits=False)) == len(expected)


def test_files_whose_names_are_one_in_composed_form_have_keys_of_their_own(source):
    for name in ("gr\u00f6\u00dfe.parquet", "gro\u0308\u00dfe.parquet"):
        write_parquet(source, name, {"image": [b"i"] * 2})
    keys = keys_of(source)
    assert sorted(keys) == [
        "gr\u00f6\u00dfe.parquet#0",
        *("gr\u00f6\u00dfe.parquet#" + end for end in ("0#2", "1", "1#2")),
    ]


def test_paths_that_repeat_in_the_first_file_are_no_keys(source):
    image = pa.array([{"bytes": b"i", "path": "image.jpg"}] * 3)
    write_parquet(source, "a.parquet", {"image": image})
    assert keys_of(source) == ["a.parquet#0", "a.parquet#1", "a.parquet#2"]


def test_repeats_are_numbered_and_share_a_split(tmp_path, source):
    source.write("a.csv", table(*[name for name in NAMES for _ in range(4)]))
    found = list(find_images(source.join("a.csv")))
    assert [record.key for record in found[:5]] == ["0.jpg", "0.jpg#2", "0.jpg#3", "0.jpg#4", "1.jpg"]
    manifest = write_manifest(found, Folder(tmp_path / "list"), **HOLD_OUT)
    splits = {
        s: {key.partition("#")[0] for keys in manifest.keys(s) for key in keys.to_pylist()} for s in ("train", "val")
    }
    assert splits["train"] & splits["val"] == set()
    assert splits["train"] | splits["val"] == set(NAMES)
    assert splits["val"]


def test_a_key_that_looks_like_a_repeat_is_kept_apart(source):
    source.write("a.csv", table("a.jpg", "a.jpg#2", "a.jpg", "a.jpg"))
    assert keys_of(source.join("a.csv")) == ["a.jpg", "a.jpg#2", "a.jpg#3", "a.jpg#4"]


def test_a_table_and_a_listing_call_an_image_the_same(source):
    fill(source, "cat/1.jpg", "dog/2.jpg")
    absolute = source.uri_of("dog/2.jpg")
    source.write("a.csv", f"uri\n./cat/../cat/1.jpg\n{absolute}\n/elsewhere/3.jpg\n".encode())
    assert keys_of(source.join("a.csv")) == ["cat/1.jpg", "dog/2.jpg", "/elsewhere/3.jpg"]


def test_a_column_of_keys(source):
    source.write("a.csv", b"uri,name\n1.jpg,b\n2.jpg,a\n")
    assert keys_of(source.join("a.csv"), key_column="name") == ["b", "a"]
    with pytest.raises(ValueError, match=r"column 'names' .*perhaps 'name': set key_column"):
        keys_of(source.join("a.csv"), key_column="names")
    source.write("a.csv", b"uri,name\n1.jpg,b\n2.jpg,\n")
    with pytest.raises(ValueError, match=r"key '' in line 3 of .*; expected one for each image"):
        keys_of(source.join("a.csv"), key_column="name")
    members = [("0.jpg", b"i"), ("0.json", b'{"key": "00017"}'), ("1.jpg", b"i"), ("1.json", b'{"key": "00018"}')]
    source.write("tars/a.tar", tar_bytes(members))
    assert keys_of(source.join("tars"), key_column="key") == ["00017", "00018"]


ONE, TWO = "caf\u00e9", "cafe\u0301"  # é as one character, and as two


def test_unicode_is_compared_in_one_form(source):
    fill(source, f"{ONE}/1.jpg", f"{TWO}/2.jpg", f"{TWO}/{ONE}.jpg", f"{TWO}/{TWO}.jpg")
    found = list(find_images(source))
    assert {record.label for record in found} == {ONE}
    assert sorted(record.key for record in found) == [
        f"{ONE}/1.jpg",
        f"{ONE}/2.jpg",
        f"{ONE}/{ONE}.jpg",
        f"{ONE}/{ONE}.jpg#2",
    ]
    assert len({record.uri for record in found}) == 4
    source.write("a.csv", f"uri,label\n1.jpg,{ONE}\n2.jpg,{TWO}\n".encode())
    assert [label for _, label, _ in listed(find_images(source.join("a.csv")))] == [ONE, ONE]
