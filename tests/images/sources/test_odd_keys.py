"""Keys of buckets that no file could have, and tables in buckets."""

import uuid

import pytest

from seit_ray.images import ImageError, fetch_images
from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.found import find_images


@pytest.fixture
def bucket(s3_server):
    return Folder(f"s3://{s3_server.create_bucket(f'odd-{uuid.uuid4().hex}')}", **s3_server.credentials)


def contents(source, **settings):
    records = list(find_images(source, SourceSettings(**settings)))
    versions = [record.version for record in records]
    found = fetch_images([(record.key, record.uri) for record in records], source, versions=versions)
    return dict(zip([record.key for record in records], found, strict=True))


def test_slashes_and_question_marks_in_keys(bucket):
    store = bucket._store().service.file_system
    names = ["/a.jpg", "b//c.jpg", "d.jpg?versionId=7.jpg", "e?f=1&g.jpg", "h #1%20+.jpg", "plain.jpg"]
    for name in names:
        store.call_s3("put_object", Bucket=bucket.uri[5:], Key=name, Body=name.encode())
    assert contents(bucket) == {name: name.encode() for name in names}


def test_a_table_in_a_bucket_names_no_files(bucket, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    bucket.write("a.jpg", b"a")
    uris = ["a.jpg", f"{tmp_path}/secret.jpg", f"file://{tmp_path}/secret.jpg", f"{bucket.uri}//gone.jpg"]
    bucket.write("list.csv", "\n".join(["uri", *uris]).encode())
    table = bucket.join("list.csv")
    first, *others = contents(table).values()
    assert first == b"a"
    assert all(isinstance(error, ImageError) for error in others)
    for error in others[:2]:
        assert f"{tmp_path}/secret.jpg is a file of the machine that reads it; expected an object" in str(error)
        assert "set source.allow_files=true" in str(error)
    assert list(contents(table, allow_files=True).values())[:3] == [b"a", b"secret", b"secret"]


def test_a_source_of_nothing_but_faults_is_an_error_with_the_reason(bucket, tmp_path):
    bucket.write("list.csv", b"uri\n/etc/passwd\n/etc/hosts\n")
    options = {"val_fraction": 0.0, "seed": 0}
    with pytest.raises(ValueError, match="nothing that can be read: /etc/passwd is a file of the machine"):
        list_images(bucket.join("list.csv"), SourceSettings(), Folder(tmp_path / "list"), **options)
    bucket.write("list.csv", b"uri\n/etc/passwd\na.jpg\n")
    manifest = list_images(bucket.join("list.csv"), SourceSettings(), Folder(tmp_path / "list"), **options)
    assert manifest.notes[0].startswith("1 listed that cannot be read: /etc/passwd is a file of the machine")
