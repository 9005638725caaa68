"""seit_ray.storage on a local folder and on a real S3 server: each case of `folder` runs on both."""

import asyncio
import errno
import os
import pickle
import random
import subprocess
import sys
import uuid

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seit_ray.storage import Folder, StorageError, normalise_uri, split_uri
from seit_ray.storage.errors import explain

NOBODY_LISTENS = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch):
    """The AWS settings of whoever runs the tests must not decide them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(scope="session")
def bucket(s3_server):
    return s3_server.create_bucket("storage-tests")


@pytest.fixture
def remote(s3_server, bucket):
    """An empty folder on S3."""
    return Folder(f"s3://{bucket}/{uuid.uuid4().hex}", **s3_server.credentials)


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    """An empty folder on either."""
    return Folder(tmp_path / "data") if request.param == "local" else request.getfixturevalue("remote")


def store_of(folder):
    """The S3 store that this folder uses."""
    return folder._store()


def names(entries):
    return [entry.name for entry in entries]


# ---- on both


def test_write_then_read(folder):
    folder.write("a/b/c.bin", b"one")
    folder.write("a/b/c.bin", b"two, longer")
    folder.write("empty", b"")
    assert folder.read("a/b/c.bin") == b"two, longer"
    assert folder.read("empty") == b""
    assert folder.join("a", "b").read("c.bin") == b"two, longer"
    assert names(folder.list(include_hidden=True)) == ["a/b/c.bin", "empty"]


def test_read_many_keeps_order_and_returns_errors(folder):
    wanted = [f"{i:02}[*]?.jpg" for i in range(40)]
    for name in wanted:
        folder.write(name, name.encode())
    wanted = [*reversed(wanted), wanted[3], "missing"]
    *good, missing = folder.read_many(wanted)
    assert good == [name.encode() for name in wanted[:-1]]
    assert isinstance(missing, StorageError)
    assert missing.kind == "missing"
    assert folder.uri_of("missing") in str(missing)
    assert folder.read_many([]) == []


def test_read_many_limits_bytes(folder):
    folder.write("fits", b"x" * 10)
    folder.write("large", b"x" * 11)
    fits, large = folder.read_many(["fits", "large"], max_bytes=10)
    assert fits == b"x" * 10
    assert large.kind == "too_large"
    assert "11 bytes" in str(large)
    assert "at most 10" in str(large)


def test_read_uris_reads_across_folders(folder, tmp_path):
    folder.write("x/1", b"1")
    folder.write("y/2", b"2")
    other = Folder(tmp_path / "other")
    other.write("3", b"3")
    uris = [folder.uri_of("y/2"), other.uri_of("3"), folder.uri_of("x/1"), other.uri_of("4")]
    *good, missing = folder.join("x").read_uris(uris)
    assert good == [b"2", b"3", b"1"]
    assert missing.kind == "missing"


def test_missing_object(folder):
    folder.write("there", b"")
    for operation in (folder.read, folder.open):
        with pytest.raises(StorageError) as error:
            operation("not/there")
        assert error.value.kind == "missing"
        assert str(error.value).startswith(f"{folder.uri}/not/there does not exist; expected")
        assert "\n" not in str(error.value)
        assert error.value.__cause__ is not None
    assert not folder.exists("not/there")
    assert folder.size("not/there") is None


def test_size_and_exists_know_objects_only(folder):
    folder.write("a/b", b"12345")
    assert folder.size("a/b") == 5
    assert folder.exists("a/b")
    assert folder.size("a") is None
    assert not folder.exists("a")


AWKWARD_NAMES = [
    "a-b/x",
    "a.txt",
    "a/x",
    "a/x/y",
    "a0",
    "A/z",
    "a/é.jpg",
    "a b/c d.jpg",
    "a/%20.jpg",
    "ä",
    "a/+&=.jpg",
]


def test_list_is_in_key_order_everywhere(folder):
    listed = [name for name in AWKWARD_NAMES if name != "a/x"]  # a disk cannot hold both a/x and a/x/y
    for name in random.Random(0).sample(listed, len(listed)):
        folder.write(name, name.encode())
    entries = list(folder.list())
    assert names(entries) == sorted(listed, key=str.encode)
    assert [entry.size_bytes for entry in entries] == [len(entry.name.encode()) for entry in entries]
    assert all(entry.modified.startswith("20") and entry.modified.endswith("+00:00") for entry in entries)
    assert folder.read_many(names(entries)) == [entry.name.encode() for entry in entries]


def test_list_by_prefix_and_hidden(folder):
    for name in ("train/a/1", "train/b/2", "train-x/3", "_work/4", "train/.cache/5", "_top", "train/_6"):
        folder.write(name, b"")
    assert names(folder.list()) == ["train-x/3", "train/a/1", "train/b/2"]
    assert names(folder.list("train/")) == ["train/a/1", "train/b/2"]
    assert names(folder.list("train/b")) == ["train/b/2"]
    assert names(folder.list("tr")) == ["train-x/3", "train/a/1", "train/b/2"]
    assert names(folder.list("nothing/")) == []
    assert names(folder.list("_work/")) == ["_work/4"]
    assert names(folder.list("_wo")) == ["_work/4"]
    assert names(folder.list("train/", include_hidden=True)) == [
        "train/.cache/5",
        "train/_6",
        "train/a/1",
        "train/b/2",
    ]
    assert folder.list_folders() == ["train", "train-x"]
    assert folder.join("train").list_folders() == ["a", "b"]
    assert names(folder.join("_work").list()) == ["4"]


def test_listing_what_is_missing_gives_nothing(folder):
    assert list(folder.join("nowhere").list()) == []
    assert folder.join("nowhere").list_folders() == []


def test_delete(folder):
    for name in ("a/1", "a/2/3", "ab/4", "a.txt"):
        folder.write(name, b"")
    folder.delete("a/1")
    folder.delete("a/1")
    assert names(folder.list()) == ["a.txt", "a/2/3", "ab/4"]
    folder.delete_tree("a")
    folder.delete_tree("a")
    assert names(folder.list()) == ["a.txt", "ab/4"]
    folder.delete_tree()
    assert list(folder.list(include_hidden=True)) == []


def test_open_reads_ranges(folder):
    data = random.Random(1).randbytes(3 << 20)
    folder.write("f", data)
    with folder.open("f") as file:
        assert file.seekable()
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.seek(1 << 20) == 1 << 20
        assert file.read(1 << 20) == data[1 << 20 : 2 << 20]
        assert file.tell() == 2 << 20
        assert file.seek(-7, os.SEEK_CUR) == (2 << 20) - 7
        assert file.read(7) == data[(2 << 20) - 7 : 2 << 20]
    assert file.closed


def test_open_serves_parquet(folder):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": list(range(100)), "y": ["v"] * 100}), sink, row_group_size=10)
    folder.write("t.parquet", sink.getvalue().to_pybytes())
    with folder.open("t.parquet") as file:
        table = pq.ParquetFile(file).read_row_group(7, columns=["x"])
    assert table.to_pydict() == {"x": list(range(70, 80))}


def test_check_readable(folder):
    folder.write("sub/f", b"1")
    folder.check_readable()
    folder.join("sub").check_readable()
    folder.join("sub/f").check_readable()  # a table is a source too
    with pytest.raises(StorageError, match="nowhere does not exist; expected"):
        folder.join("nowhere").check_readable()


def test_check_writable_leaves_nothing(folder):
    folder.join("new").check_writable()
    assert list(folder.list(include_hidden=True)) == []


def test_pickle_equality_and_repr(folder):
    folder.write("f", b"1")
    folder.read("f")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy == folder
    assert hash(copy) == hash(folder)
    assert copy.read("f") == b"1"
    assert folder.join("f") != folder
    assert "testing" not in repr(folder)
    assert repr(folder) == f"Folder({folder.uri!r})"


@pytest.mark.parametrize("name", ["", "/absolute"])
def test_names_are_relative(folder, name):
    with pytest.raises(StorageError, match="expected a relative name"):
        folder.read(name)


def test_resolve(folder, tmp_path):
    assert folder.resolve("a/b.jpg") == f"{folder.uri}/a/b.jpg"
    assert folder.join("x").resolve("../b.jpg") == f"{folder.uri}/b.jpg"
    assert folder.resolve("s3://other/k") == "s3://other/k"
    assert folder.resolve(f"{tmp_path}/z") == f"{tmp_path}/z"
    with pytest.raises(StorageError, match="http://x/y"):
        folder.resolve("http://x/y")


# ---- S3 only


def every_operation(folder):
    yield folder.check_readable
    yield folder.check_writable
    yield lambda: folder.read("f")
    yield lambda: folder.write("f", b"")
    yield lambda: folder.open("f")
    yield lambda: folder.size("f")
    yield lambda: list(folder.list())
    yield folder.list_folders
    yield lambda: folder.delete("f")
    yield folder.delete_tree


def test_wrong_secret(s3_server, remote):
    remote.write("f", b"1")
    wrong = Folder(remote.uri, **{**s3_server.credentials, "secret_access_key": "wrong-secret"})
    for operation in every_operation(wrong):
        with pytest.raises(StorageError, match="is not accessible") as error:
            operation()
        assert error.value.kind == "denied"
        assert remote.uri in str(error.value)
        assert "wrong-secret" not in str(error.value)
    for operation in (wrong.check_readable, wrong.check_writable):
        with pytest.raises(StorageError, match=r"SignatureDoesNotMatch.*check AWS_ACCESS_KEY_ID"):
            operation()
    assert remote.read("f") == b"1"  # the right secret is not mistaken for the wrong one


def test_missing_bucket(s3_server):
    folder = Folder("s3://no-such-bucket/data", **s3_server.credentials)
    assert folder.size("f") is None  # there is no such object, whatever the reason
    for operation in (folder.check_readable, folder.check_writable, folder.list_folders, folder.delete_tree):
        with pytest.raises(StorageError, match="no-such-bucket/data is in a bucket that does not exist"):
            operation()
    with pytest.raises(StorageError, match="no-such-bucket/data is in a bucket that does not exist"):
        list(folder.list())
    with pytest.raises(StorageError, match="no-such-bucket/data/f is in a bucket that does not exist"):
        folder.write("f", b"")
    with pytest.raises(
        StorageError, match="no-such-bucket/data/f is in a bucket that does not exist"
    ) as error:
        folder.read("f")
    assert error.value.kind == "invalid"  # not the fault of one object: it must stop the work


def test_unreachable_endpoint(s3_server):
    folder = Folder("s3://bucket/data", **{**s3_server.credentials, "endpoint_url": NOBODY_LISTENS})
    for operation in (folder.check_readable, folder.check_writable):
        with pytest.raises(
            StorageError, match=rf"unreachable.*\({NOBODY_LISTENS}\).*AWS_ENDPOINT_URL"
        ) as error:
            operation()
        assert error.value.kind == "unavailable"


def test_no_credentials(s3_server, remote):
    with pytest.raises(StorageError, match=r"no credentials found.*anonymous") as error:
        Folder(remote.uri, endpoint_url=s3_server.endpoint_url).check_readable()
    assert error.value.kind == "denied"


def test_anonymous_is_not_signed(s3_server, remote):
    folder = Folder(remote.uri, endpoint_url=s3_server.endpoint_url, anonymous=True)
    with pytest.raises(StorageError):  # the bucket is private
        folder.check_readable()


def test_environment_is_used_and_never_stale(s3_server, remote, monkeypatch):
    remote.write("f", b"1")
    plain = Folder(remote.uri)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_REGION", s3_server.region)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_access_key)
    assert plain.read("f") == b"1"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch"):
        plain.read("f")
    explicit = Folder(remote.uri, **s3_server.credentials)
    assert explicit.read("f") == b"1"  # arguments win over the environment


def test_connections_are_shared(remote):
    assert store_of(remote) is store_of(remote.join("a").at("s3://elsewhere"))


def test_list_streams_pages(remote, monkeypatch):
    for i in range(7):
        remote.write(f"{i}", b"")
    file_system = store_of(remote).file_system
    call, calls = file_system.call_s3, []

    def small_pages(operation, **request):
        calls.append(operation)
        return call(operation, **({"MaxKeys": 3} | request))

    monkeypatch.setattr(file_system, "call_s3", small_pages)
    listing = remote.list()
    assert next(listing).name == "0"
    assert calls == ["list_objects_v2"]
    assert names(listing) == [f"{i}" for i in range(1, 7)]
    assert calls == ["list_objects_v2"] * 3
    remote.delete_tree()
    assert list(remote.list()) == []


def test_folder_markers_are_no_objects(remote):
    bucket, _, key = remote.uri.removeprefix("s3://").partition("/")
    store_of(remote).file_system.call_s3("put_object", Bucket=bucket, Key=f"{key}/a/", Body=b"")
    remote.write("a/1", b"")
    assert names(remote.list()) == ["a/1"]
    assert remote.list_folders() == ["a"]


def test_delete_tree_reports_what_stays(remote, monkeypatch):
    remote.write("f", b"")
    file_system = store_of(remote).file_system
    call = file_system.call_s3

    def refuse(operation, **request):
        if operation == "delete_objects":
            return {"Errors": [{"Key": "f", "Code": "AccessDenied"}]}
        return call(operation, **request)

    monkeypatch.setattr(file_system, "call_s3", refuse)
    with pytest.raises(StorageError, match="was not deleted: AccessDenied"):
        remote.delete_tree()


def test_delete_tree_refuses_a_whole_bucket(s3_server, bucket):
    folder = Folder(f"s3://{bucket}", **s3_server.credentials)
    for operation in (folder.delete_tree, lambda: Folder("/").delete_tree()):
        with pytest.raises(StorageError, match="expected a folder in it"):
            operation()


class BreakingClient:
    """Answers GET, but breaks the first bodies."""

    def __init__(self, breaks):
        self.breaks, self.requests, self.closed = breaks, 0, 0

    async def get_object(self, **_):
        self.requests += 1
        return {"ContentLength": 4, "Body": self}

    async def read(self):
        if self.requests <= self.breaks:
            raise aiohttp.ClientPayloadError("cut off")
        return b"data"

    def close(self):
        self.closed += 1


@pytest.mark.parametrize(("breaks", "requests"), [(0, 1), (2, 3), (9, 4)])
def test_broken_bodies_are_fetched_again(monkeypatch, breaks, requests):
    from seit_ray.storage import s3

    async def no_pause(_):
        return None

    async def get():
        return await s3._get(client, asyncio.Semaphore(1), "bucket", "key", None)

    client = BreakingClient(breaks)
    monkeypatch.setattr(s3.asyncio, "sleep", no_pause)
    if breaks < 4:
        assert asyncio.run(get()) == b"data"
    else:
        with pytest.raises(aiohttp.ClientPayloadError) as error:
            asyncio.run(get())
        assert explain(error.value, "s3://b/k").kind == "unavailable"
    assert client.requests == client.closed == requests


def test_half_of_the_credentials():
    with pytest.raises(StorageError, match="expected both or neither"):
        Folder("s3://b", access_key_id="only")
    with pytest.raises(StorageError, match="expected one of them"):
        Folder("s3://b", access_key_id="a", secret_access_key="b", anonymous=True)


# ---- local only


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write("f", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="disk is full; expected free space; free some") as error:
        folder.write("f", b"new")
    assert error.value.kind == "full"
    assert os.listdir(tmp_path) == ["f"]
    assert folder.read("f") == b"old"


def test_write_below_a_file(tmp_path):
    folder = Folder(tmp_path)
    folder.write("f", b"")
    with pytest.raises(StorageError, match="f/g"):
        folder.write("f/g", b"")
    assert folder.size("f/g") is None


def test_links(tmp_path):
    folder = Folder(tmp_path / "data")
    folder.write("real/1.jpg", b"1")
    Folder(tmp_path / "elsewhere").write("2.jpg", b"22")
    data = tmp_path / "data"
    (data / "real/up").symlink_to(data)  # a loop
    (data / "real/self").symlink_to(data / "real/self")  # a link to itself
    (data / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    (data / "file.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(data / "pipe.jpg")
    sizes = {entry.name: entry.size_bytes for entry in folder.list()}
    assert list(sizes) == ["broken.jpg", "file.jpg", "linked/2.jpg", "real/1.jpg", "real/self"]
    assert sizes["file.jpg"] == sizes["linked/2.jpg"] == 2
    assert folder.list_folders() == ["linked", "real"]
    broken, itself = folder.read_many(["broken.jpg", "real/self"])
    assert broken.kind == itself.kind == "missing"
    folder.delete_tree("linked")
    assert (tmp_path / "elsewhere/2.jpg").exists()


def test_file_names_must_be_utf8(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):
        pass
    with pytest.raises(StorageError, match="expected UTF-8; rename the file"):
        list(Folder(tmp_path).list())


def test_random_trees_sort_as_keys(tmp_path):
    choose = random.Random(2)
    for tree in range(20):
        folder = Folder(tmp_path / str(tree))
        parts = ["a", "a-", "a.b", "a0", "b", "Z", "~"]
        written = {"/".join(choose.choices(parts, k=choose.randint(1, 3))) + f"!{i}" for i in range(30)}
        for name in written:
            folder.write(name, b"")
        assert names(folder.list()) == sorted(written, key=str.encode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path):
    folder = Folder(tmp_path)
    folder.write("f", b"")
    (tmp_path / "f").chmod(0)
    with pytest.raises(StorageError, match=r"permission denied.*change its permissions") as error:
        folder.read("f")
    assert error.value.kind == "denied"


def test_local_use_does_not_load_s3fs(tmp_path):
    code = f"""
import sys
from seit_ray.storage import Folder
Folder({str(tmp_path)!r}).write("f", b"")
sys.exit("s3fs" in sys.modules or "botocore" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- uris and errors


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://b", "s3://b"),
        ("s3://b/", "s3://b"),
        ("s3a://b/k/", "s3://b/k"),
        ("S3://b/a//b", "s3://b/a//b"),
        ("/x/y/", "/x/y"),
        ("/x/../y", "/y"),
        ("/", "/"),
        ("file:///x/a%20b", "/x/a b"),
        ("file://localhost/x", "/x"),
        ("~/x", os.path.expanduser("~/x")),
        ("rel", os.path.join(os.getcwd(), "rel")),
    ],
)
def test_normalise_uri(uri, expected):
    assert normalise_uri(uri) == expected
    assert normalise_uri(expected) == expected


@pytest.mark.parametrize("uri", ["", "gs://b/k", "https://x/y.jpg", "s3://", "s3:///k", "file://host/x"])
def test_uris_that_are_refused(uri):
    with pytest.raises(StorageError, match="expected s3://BUCKET/PATH"):
        Folder(uri)


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("s3://b/k/t.csv", "s3://b/k", "t.csv"),
        ("s3://b/t.csv", "s3://b", "t.csv"),
        ("s3://b", "s3://b", ""),
        ("/a/t.csv", "/a", "t.csv"),
        ("/t.csv", "/", "t.csv"),
    ],
)
def test_split_uri(uri, folder, name):
    assert split_uri(uri) == (folder, name)
    if name:
        assert Folder(folder).uri_of(name) == uri


class ServerError(Exception):
    """As botocore's ClientError: the code is in the response."""

    def __init__(self, code, status=400):
        super().__init__(f"An error occurred ({code})")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ServerError("NoSuchKey"), "missing", "does not exist"),
        (ServerError("NoSuchBucket"), "invalid", "bucket that does not exist"),
        (ServerError("AccessDenied"), "denied", "access denied"),
        (ServerError("InvalidAccessKeyId"), "denied", "unknown access key"),
        (ServerError("ExpiredToken"), "denied", "session token has expired"),
        (ServerError("SlowDown"), "unavailable", "too many requests"),
        (ServerError("NewKindOfTrouble", 503), "unavailable", "service is unavailable"),
        (ServerError("NewKindOfDenial", 403), "denied", "access denied"),
        (ServerError("PermanentRedirect"), "invalid", "lies in another region"),
        (OSError(errno.EACCES, "x"), "denied", "permission denied"),
        (OSError(errno.ENOSPC, "x"), "full", "disk is full"),
        (OSError(errno.EROFS, "x"), "denied", "read-only"),
        (OSError(errno.EISDIR, "x"), "missing", "is a folder"),
        (TimeoutError(), "unavailable", "stopped answering"),
        (ConnectionResetError(), "unavailable", "connection failed"),
        (RuntimeError("one\ntwo"), "invalid", "failed with RuntimeError one"),
    ],
)
def test_errors_are_one_clear_line(error, kind, text):
    explained = explain(error, "s3://b/k")
    assert explained.kind == kind
    assert explained.__cause__ is error
    with pytest.raises(StorageError, match=rf"^s3://b/k .*{text}.*; expected .*; [^\n]+$"):
        raise explained
    copy = pickle.loads(pickle.dumps(explained))
    assert (str(copy), copy.kind) == (str(explained), kind)
    assert explain(explained, "other") is explained
