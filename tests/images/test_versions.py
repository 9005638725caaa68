"""What is read is what was listed: another version is a reject that says so."""

import os
import uuid

import pytest

from seit_ray.images import ImageError, fetch_images
from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.storage import Folder, StorageError
from tests.images.found import find_images, write_manifest
from tests.images.made_sources import write_parquet
from tests.images.made_tars import samples, tar_bytes
from tests.images.pictures import encoded, quadrants


@pytest.fixture(params=["local", "s3"])
def source(request, tmp_path):
    if request.param == "local":
        return Folder(tmp_path / "source")
    server = request.getfixturevalue("s3_server")
    return Folder(f"s3://{server.create_bucket(f'versions-{uuid.uuid4().hex}')}/data", **server.credentials)


def listed(source):
    records = list(find_images(source))
    return [(record.key, record.uri) for record in records], [record.version for record in records]


def overwrite(source, name, data):
    source.write(name, data)
    if not source.is_remote:
        os.utime(source.uri_of(name), (1, 1))  # whatever the clock of the file system


def test_an_image_that_was_overwritten(source):
    for name in ("a.jpg", "b.jpg"):
        source.write(name, name.encode())
    pairs, versions = listed(source)
    assert fetch_images(pairs, source, versions=versions) == [b"a.jpg", b"b.jpg"]
    overwrite(source, "b.jpg", b"B.jpg")
    good, bad = fetch_images(pairs, source, versions=versions)
    assert good == b"a.jpg"
    assert isinstance(bad, ImageError)
    assert "b.jpg changed since it was listed; expected the listed version; list the source again" in str(bad)
    assert fetch_images(pairs, source) == [b"a.jpg", b"B.jpg"]


def test_a_parquet_file_that_was_sorted_anew(source):
    write_parquet(source, "a.parquet", {"image": [b"0", b"1"], "label": [0, 1]})
    write_parquet(source, "b.parquet", {"image": [b"2", b"3"], "label": [2, 3]})
    pairs, versions = listed(source)
    assert fetch_images(pairs, source, versions=versions) == [b"0", b"1", b"2", b"3"]
    write_parquet(source, "a.parquet", {"image": [b"1", b"0"], "label": [1, 0]})
    overwrite(source, "a.parquet", source.read("a.parquet"))
    *bad, third, fourth = fetch_images(pairs, source, versions=versions)
    assert (third, fourth) == (b"2", b"3")
    assert ["a.parquet changed since it was listed" in str(error) for error in bad] == [True, True]


def test_a_tar_of_equal_layout(source):
    members, images = samples(3)
    source.write("a.tar", tar_bytes(members))
    pairs, versions = listed(source)
    assert fetch_images(pairs, source, versions=versions) == images
    overwrite(source, "a.tar", tar_bytes([(name, data[::-1]) for name, data in members]))
    for error in fetch_images(pairs, source, versions=versions):
        assert isinstance(error, ImageError)
        assert "a.tar changed since it was listed" in str(error)


def test_a_part_compares_with_the_manifest(source, tmp_path):
    source.write("a.png", encoded(quadrants()))
    source.write("b.png", encoded(quadrants()))
    manifest = write_manifest(find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    overwrite(source, "a.png", encoded(quadrants(8, 8)))
    (part,) = decoded_chunks(manifest.read_part("train", 0), source, Decoding(image_size=8, resize="squash"))
    assert part.rows["key"].to_pylist() == ["b.png"]
    assert "a.png changed since it was listed" in part.rejected["reason"][0].as_py()
    assert source.version("nowhere") is None


def test_an_object_with_rules_of_its_own_is_a_reject_where_others_can_be_read(source, monkeypatch):
    if not source.is_remote:
        pytest.skip("of buckets")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        source.write(name, name.encode())
    client = source._store().service.file_system.s3
    get = client.get_object

    async def refused(**request):
        from botocore.exceptions import ClientError

        code = {"data/b.jpg": "AccessDenied", "data/c.jpg": "InvalidObjectState"}.get(request["Key"])
        if code:
            raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")
        return await get(**request)

    monkeypatch.setattr(client, "get_object", refused)
    good, denied, archived = fetch_images(listed(source)[0], source)
    assert good == b"a.jpg"
    assert isinstance(denied, ImageError)
    assert "b.jpg is not accessible: access denied" in str(denied)
    assert isinstance(archived, ImageError)
    assert "c.jpg lies in an archive class (Glacier) and is not restored" in str(archived)
    (alone,) = fetch_images([("b.jpg", source.uri_of("b.jpg"))], source)
    assert not isinstance(alone, ImageError)


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken"])
def test_rights_that_end_while_images_are_read_cost_none(source, monkeypatch, code):
    if not source.is_remote:
        pytest.skip("of buckets")
    for name in ("a.jpg", "b.jpg"):
        source.write(name, name.encode())
    client, asked = source._store().service.file_system.s3, []
    get = client.get_object

    async def refused(**request):
        from botocore.exceptions import ClientError

        if asked or request["Key"].endswith("b.jpg"):
            raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")
        asked.append(request["Key"])
        return await get(**request)

    records = listed(source)[0]
    monkeypatch.setattr(client, "get_object", refused)
    found = fetch_images(records, source)
    assert not any(isinstance(each, ImageError) for each in found)
    assert any(isinstance(each, StorageError) for each in found)
