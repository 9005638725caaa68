"""A source's inventory in place of its listing: the same images."""

import gzip
import io
import json
import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from seit_ray.images import fetch_images
from seit_ray.images.sources.inventory import relative_names, sorted_inventory
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError
from tests.images.found import find_images
from tests.tiny_images import image_files, write_files

FILES = image_files(12) | {"notes.txt": b"", "_hidden/x.png": b"", "cat/größe und 猫.png": b"x", "cat-1/a.png": b"y"}


def inventory_of(source, *, whole=False, names=("key", "size", "e_tag", "last_modified_date"), reverse=True):
    """The objects of a source as S3's inventory has them, in no order."""
    prefix = "" if not source.is_remote else source.uri.split("/", 3)[3] + "/"
    entries = list(source.list(include_hidden=True))[:: -1 if reverse else 1]
    keys = [source.uri_of(e.name) if whole else prefix + e.name for e in entries]
    values = (keys, [e.size_bytes for e in entries], [e.etag for e in entries], [e.modified for e in entries])
    return pa.table(dict(zip(names, values, strict=True)))


def written(folder, table, name="inventory.parquet"):
    sink = io.BytesIO()
    (pq.write_table if name.endswith(".parquet") else pa_csv.write_csv)(table, sink)
    folder.write(name, sink.getvalue())
    return folder.uri_of(name)


@pytest.mark.parametrize("name", ["inventory.parquet", "inventory.csv"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_images_are_those_of_the_listing(tmp_path, name, whole):
    source = write_files(tmp_path / "images", FILES)
    uri = written(Folder(tmp_path), inventory_of(source, whole=whole), name)
    listed, found = find_images(source), find_images(source, SourceSettings(inventory=uri))
    assert list(found) == [replace(record, version=None) for record in listed]
    assert found.left_out == listed.left_out


def test_a_time_is_no_version(tmp_path, s3_server):
    """Each store tells it in another way, and none of it is what a read is compared with; nor is an ETag on a disk."""
    on_disk = write_files(tmp_path / "images", {"a.png": b"a", "b.png": b"b"})
    bucket = Folder(f"s3://{s3_server.create_bucket('inventory-times')}", **s3_server.credentials)
    for source in (on_disk, write_files(bucket.join("photos"), {"a.png": b"a", "b.png": b"b"})):
        names = [source.uri_of(name) for name in ("a.png", "b.png")]
        table = pa.table({"key": names, "size": [1, 1], "last_modified": ["2024-01-01T00:00:00.000Z"] * 2})
        if not source.is_remote:
            table = table.append_column("etag", pa.array(["0cc175b9c0f1b6a831c399e269772661"] * 2))
        place = bucket if source.is_remote else Folder(tmp_path)
        records = list(find_images(source, SourceSettings(inventory=written(place, table, "times.parquet"))))
        versions = [record.version for record in records]
        assert versions == [None, None]
        pairs = [(record.key, record.uri) for record in records]
        assert fetch_images(pairs, source, versions=versions) == [b"a", b"b"]


def test_in_a_bucket(tmp_path, s3_server):
    bucket = Folder(f"s3://{s3_server.create_bucket('inventory')}", **s3_server.credentials)
    source = write_files(bucket.join("photos/of 2024"), FILES)
    bucket.write("elsewhere/z.png", b"")
    table = pa.concat_tables([inventory_of(source), inventory_of(bucket.join("elsewhere"))])
    uri = written(bucket.join("inventories"), table)
    found = list(find_images(source, SourceSettings(inventory=uri)))
    assert found == list(find_images(source))
    assert {record.key for record in found} == {name for name in FILES if name.endswith(".png")}


def test_of_google_it_is_the_generation_that_counts(google_server, monkeypatch):
    for variable, value in google_server.variables.items():
        monkeypatch.setenv(variable, value)
    source = write_files(Folder(f"gs://{google_server.create_bucket('inventory')}/photos"), FILES)
    table = inventory_of(source, names=("name", "size", "generation", "updated"))
    table = table.append_column("etag", pa.array(["an ETag, which is not compared"] * len(table)))
    found = list(find_images(source, SourceSettings(inventory=written(source.at("gs://inventory/lists"), table))))
    assert found == list(find_images(source))
    assert all(record.version.isdigit() for record in found)


def test_tables_that_are_none(tmp_path):
    source = write_files(tmp_path / "images", FILES)
    place = Folder(tmp_path)
    cases = {
        written(place, inventory_of(source, names=("path", "size", "a", "b"))): "expected a column key or name or uri",
        written(place, inventory_of(source, names=("key", "length", "a", "b")), "b.csv"): "expected a column size",
        written(place, pa.table({"key": ["/other/a.png"], "size": [3]}), "c.parquet"): "has no key below",
        place.uri_of("d.txt"): r"expected a .parquet or a .csv file",
    }
    place.write("e.parquet", b"damaged")
    cases[place.uri_of("e.parquet")] = "cannot be read"
    for uri, words in cases.items():
        with pytest.raises(ValueError, match=words):
            list(find_images(source, SourceSettings(inventory=uri)))


def test_keys_are_texts_and_versions_that_are_not_the_latest_are_passed_over(s3_server):
    bucket = Folder(f"s3://{s3_server.create_bucket('inventory-versions')}", **s3_server.credentials)
    source, place = write_files(bucket.join("images"), {"007.png": b"a", "12.png": b"bb"}), bucket
    place.write(
        "a.csv",
        b"key,size,e_tag,is_latest\n"
        + b"".join(
            b"images/%b\n" % row for row in (b"007.png,1,123,true", b"12.png,2,456,true", b"12.png,9,789,false")
        ),
    )
    found = list(find_images(source, SourceSettings(inventory=place.uri_of("a.csv"))))
    assert [(record.key, record.size_bytes, record.version) for record in found] == [
        ("007.png", 1, "123"),
        ("12.png", 2, "456"),
    ]
    table = {"key": ["images/12.png", "images/007.png"], "size": [2, 1], "is_delete_marker": [False, True]}
    uri = written(place, pa.table(table), "b.parquet")
    (record,) = find_images(source, SourceSettings(inventory=uri))
    assert (record.key, record.version) == ("12.png", None)


def test_the_keys_of_s3s_own_csv_are_decoded_and_those_of_other_tables_are_not(tmp_path, s3_server):
    bucket = Folder(f"s3://{s3_server.create_bucket('inventory-encoded')}", **s3_server.credentials)
    names = ["100%25.png", "a b+c.png", "größe/猫.png", "12.png"]
    source = write_files(bucket.join("images"), dict.fromkeys(names, b"x"))
    encoded = ["images/100%2525.png", "images/a+b%2Bc.png", "images/gr%C3%B6%C3%9Fe/%E7%8C%AB.png", "images/12.png"]
    rows = [f'"{bucket.uri[5:]}","{key}","true","1","5"\n' for key in encoded]  # as S3 writes them, without a header
    schema = "Bucket, Key, IsLatest, Size, ETag"  # as manifest.json says it
    plain = [f"images/{name},1\n" for name in names]
    for name, text in (("s3.csv", f"{schema}\n" + "".join(rows)), ("plain.csv", "key,size\n" + "".join(plain))):
        bucket.write(name, text.encode())
        found = list(find_images(source, SourceSettings(inventory=bucket.uri_of(name))))
        assert [record.key for record in found] == sorted(names, key=str.encode)
        assert {record.version for record in found} == {"5" if name == "s3.csv" else None}


def test_a_key_that_comes_twice_and_sizes_that_are_none(tmp_path):
    source, place = write_files(tmp_path / "images", {"a.png": b"a"}), Folder(tmp_path)
    place.write("a.csv", b"key,size\na.png,1\na.png,1\n")
    place.write("b.csv", b"key,size\na.png,n/a\n")
    for name, words in (("a.csv", r"has the key 'a.png' twice"), ("b.csv", "expected keys, and sizes in bytes")):
        with pytest.raises(ValueError, match=words):
            list(find_images(source, SourceSettings(inventory=place.uri_of(name))))


def s3_csv(bucket, keys):
    """Rows as S3 writes them, under its schema without a header."""
    return gzip.compress("".join(f'"{bucket}","{key}","true","1","5"\n' for key in keys).encode())


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_the_manifest_of_s3_names_the_files(s3_server, tmp_path, kind):
    bucket = Folder(f"s3://{s3_server.create_bucket(f'inventory-{kind.lower()}')}", **s3_server.credentials)
    names = ["a b.png", "b.png", "c.png", "é.png"]
    source, name = write_files(bucket.join("images"), dict.fromkeys(names, b"x")), bucket.uri[5:]
    keys, files = ["images/c.png", "images/%C3%A9.png", "images/a+b.png", "images/b.png"], []
    for number in range(2):
        some = keys[number::2]
        file = f"lists/images/all/data/{number}.{'csv.gz' if kind == 'CSV' else 'parquet'}"
        if kind == "CSV":
            bucket.write(file, s3_csv(name, some))
        else:
            written(
                bucket, pa.table({"key": [f"images/{names[i]}" for i in (number, number + 2)], "size": [1, 1]}), file
            )
        files.append({"key": file, "size": bucket.size(file)})
    if kind == "CSV":  # without objects
        bucket.write("lists/images/all/data/2.csv.gz", gzip.compress(b""))
        files.append({"key": "lists/images/all/data/2.csv.gz"})
    about = {"destinationBucket": f"arn:aws:s3:::{name}", "fileFormat": kind, "files": files}
    about["fileSchema"] = "Bucket, Key, IsLatest, Size, ETag" if kind == "CSV" else "message s3.inventory {}"
    bucket.write("lists/images/all/2026-01-01T00-00Z/manifest.json", json.dumps(about).encode())
    uri = bucket.uri_of("lists/images/all/2026-01-01T00-00Z/manifest.json")
    found = list(find_images(source, SourceSettings(inventory=uri)))
    assert [(record.key, record.size_bytes) for record in found] == [(key, 1) for key in names]
    copied = Folder(tmp_path)  # as `aws s3 sync` leaves it
    for entry in bucket.join("lists/images/all").list():
        copied.write(entry.name, bucket.join("lists/images/all").read(entry.name))
    local = Folder(tmp_path).uri_of("2026-01-01T00-00Z/manifest.json")
    if kind == "Parquet":
        on_disk = write_files(tmp_path / "images", dict.fromkeys(names, b"x"))
        about["files"] = [{"key": file["key"]} for file in files]  # those written here have other sizes
        copied.write("2026-01-01T00-00Z/manifest.json", json.dumps(about).encode())
        keyed = pa.table({"key": [on_disk.uri_of(name) for name in names[:2]], "size": [1, 1]})
        for number in range(2):
            written(copied.join("data"), keyed.slice(number, 1), f"{number}.parquet")
        assert [record.key for record in find_images(on_disk, SourceSettings(inventory=local))] == names[:2]


def test_manifests_that_are_none(tmp_path):
    source, place = write_files(tmp_path / "images", {"a.png": b"a"}), Folder(tmp_path)
    whole = {
        "destinationBucket": "arn:aws:s3:::b",
        "fileFormat": "ORC",
        "fileSchema": "",
        "files": [{"key": "a/b.orc"}],
    }
    for text, words in (
        (b"{", "cannot be read"),
        (b"[]", "manifest.json of an S3 Inventory"),
        (b'{"files": []}', "manifest.json of an S3 Inventory"),
        (json.dumps(whole).encode(), "in ORC; expected CSV or Parquet"),
        (json.dumps(whole | {"files": [{"key": "a", "size": "big"}]}).encode(), "manifest.json of an S3 Inventory"),
        (json.dumps(whole | {"files": [{"key": None}]}).encode(), "manifest.json of an S3 Inventory"),
    ):
        place.write("manifest.json", text)
        with pytest.raises(ValueError, match=words):
            list(find_images(source, SourceSettings(inventory=place.uri_of("manifest.json"))))


def test_a_missing_manifest_is_told_as_missing(tmp_path):
    source = write_files(tmp_path / "images", {"a.png": b"a"})
    with pytest.raises(StorageError, match=r"gone/manifest.json does not exist") as error:
        list(find_images(source, SourceSettings(inventory=Folder(tmp_path).uri_of("gone/manifest.json"))))
    assert error.value.kind == "missing"


def test_a_file_that_is_not_the_one_its_manifest_tells_of(tmp_path):
    source, place = write_files(tmp_path / "images", {"a.png": b"a"}), Folder(tmp_path)
    place.write("data/0.csv.gz", s3_csv("b", ["a.png"]))
    about = {
        "destinationBucket": "arn:aws:s3:::b",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, IsLatest, Size, ETag",
        "files": [{"key": "b/data/0.csv.gz", "size": place.size("data/0.csv.gz") + 1}],
    }
    place.write("now/manifest.json", json.dumps(about).encode())
    with pytest.raises(
        ValueError, match=r"says that 0.csv.gz has \d+ bytes, it has \d+; expected the files that it was"
    ):
        list(find_images(source, SourceSettings(inventory=place.uri_of("now/manifest.json"))))


@pytest.mark.parametrize("keys", [["a.png", None], ["", "a.png"]])
def test_a_row_without_a_key_is_told(tmp_path, keys):
    source, place = write_files(tmp_path / "images", {"a.png": b"a"}), Folder(tmp_path)
    uri = written(place, pa.table({"key": keys, "size": [1, 1]}), "a.parquet")
    with pytest.raises(ValueError, match=r"inventory .*a.parquet has a row without a key; expected one in each"):
        list(find_images(source, SourceSettings(inventory=uri)))


def test_a_csv_table_may_have_a_bom_quotes_and_line_ends_in_names(tmp_path):
    source, place = write_files(tmp_path / "images", {"a,b.png": b"a", "c\nd.png": b"b"}), Folder(tmp_path)
    place.write("a.csv", b'\xef\xbb\xbf"key", "size",more\r\n"a,b.png",1,x\r\n"c\nd.png",,y\r\n')
    found = list(find_images(source, SourceSettings(inventory=place.uri_of("a.csv"))))
    assert [(record.key, record.size_bytes) for record in found] == [("a,b.png", 1), ("c\nd.png", 0)]


def test_what_a_cell_says_of_versions(tmp_path):
    source, place = write_files(tmp_path / "images", dict.fromkeys(["a.png", "b.png", "c.png"], b"a")), Folder(tmp_path)
    settings = SourceSettings(inventory=place.uri_of("a.csv"))
    place.write(
        "a.csv", b"key,size,is_latest,is_delete_marker\na.png,1,,\nb.png,1,1,False\nc.png,1,true,1\nd,1,FALSE,\n"
    )
    assert [record.key for record in find_images(source, settings)] == ["a.png", "b.png"]
    place.write("a.csv", b"key,size,is_latest\na.png,1,maybe\n")
    with pytest.raises(ValueError, match="has is_latest 'maybe'; expected true or false"):
        list(find_images(source, settings))


def damaged_parquet():
    """One whose last page has a flipped byte."""
    sink = io.BytesIO()
    table = pa.table({"key": [f"{i}.png" for i in range(1000)], "size": [1] * 1000})
    pq.write_table(table, sink, compression="snappy", use_dictionary=False, write_page_checksum=True)
    data = bytearray(sink.getvalue())
    data[2000] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.csv.gz", gzip.compress(os.urandom(9000).hex().encode())[:500]),
        ("plain.csv.gz", b"key,size\na.png,1\n"),
        ("page.parquet", damaged_parquet()),
        ("twice.csv", b"key,size,key\na.png,1,b.png\n"),
    ],
)
def test_a_damaged_inventory_is_one_line(tmp_path, name, data):
    source, place = write_files(tmp_path / "images", {"a.png": b"a"}), Folder(tmp_path)
    place.write(name, data)
    with pytest.raises(ValueError, match=rf"inventory .*{name} cannot be read \(.*\); expected a table"):
        list(find_images(source, SourceSettings(inventory=place.uri_of(name))))


def test_keys_of_a_bucket_that_look_like_addresses_further_on():
    source = Folder("s3://bucket/ph", access_key_id="a", secret_access_key="b")
    named = {
        "ph/a/http://x/y.jpg": "a/http://x/y.jpg",
        "s3://bucket/ph/b.jpg": "b.jpg",
        "s3://other/ph/c.jpg": None,
        "/ph/d.jpg": None,
        "ph//e.jpg": "/e.jpg",
        "other/f.jpg": None,
    }
    assert relative_names(pa.array(named), source).to_pylist() == list(named.values())


def test_rows_and_manifests_of_another_bucket(tmp_path):
    source, place = Folder("s3://b/photos", access_key_id="a", secret_access_key="b"), Folder(tmp_path)
    place.write("a.csv", b"Bucket,Key,Size\nb,photos/a.jpg,1\nother,photos/o.jpg,1\n")
    (table,) = sorted_inventory(source, place.uri_of("a.csv")).slices()
    assert table["key"].to_pylist() == [b"a.jpg"]
    about = {
        "sourceBucket": "c",
        "destinationBucket": "arn:aws:s3:::d",
        "fileFormat": "CSV",
        "fileSchema": "",
        "files": [],
    }
    place.write("manifest.json", json.dumps(about).encode())
    with pytest.raises(ValueError, match="of bucket c; expected one of b, where the images are"):
        sorted_inventory(source, place.uri_of("manifest.json"))
