"""What only S3 has: credentials, endpoints, buckets, pages and bodies that break."""

import asyncio

import aiohttp
import pytest
from botocore.exceptions import ClientError

from seit_ray.storage import Folder, StorageError, bodies
from seit_ray.storage.errors import explain
from seit_ray.storage.service import Answer

NOBODY_LISTENS = "http://127.0.0.1:9"


def store_of(folder):
    """The S3 store that this folder uses."""
    return folder._store()


def names(entries):
    return [entry.name for entry in entries]


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
        # an answer without a body, as to HEAD, does not say what is wrong with the keys
        assert error.value.kind == ("denied" if "HTTP 403" in str(error.value) else "credentials")
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
    with pytest.raises(StorageError, match="no-such-bucket/data/f is in a bucket that does not exist") as error:
        folder.read("f")
    assert error.value.kind == "invalid"  # not the fault of one object: it must stop the work


def test_unreachable_endpoint(s3_server):
    folder = Folder("s3://bucket/data", **{**s3_server.credentials, "endpoint_url": NOBODY_LISTENS})
    for operation in (folder.check_readable, folder.check_writable):
        with pytest.raises(StorageError, match=rf"unreachable.*\({NOBODY_LISTENS}\).*AWS_ENDPOINT_URL") as error:
            operation()
        assert error.value.kind == "unavailable"


def test_no_credentials(s3_server, remote):
    with pytest.raises(StorageError, match=r"no credentials found.*anonymous") as error:
        Folder(remote.uri, endpoint_url=s3_server.endpoint_url).check_readable()
    assert error.value.kind == "credentials"


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
    file_system = store_of(remote).service.file_system
    call, calls = file_system.call_s3, []

    def small_pages(operation, **request):
        calls.append(operation)
        return call(operation, **({"MaxKeys": 3} | request))

    monkeypatch.setattr(file_system, "call_s3", small_pages)
    listing = remote.list()
    assert next(listing).name == "0"
    assert calls == ["list_objects_v2"]
    assert names(listing) == [f"{i}" for i in range(1, 7)]
    assert calls == ["list_objects_v2"] * 4  # three pages, and a look for folders
    remote.delete_tree()
    assert list(remote.list()) == []


def test_folder_markers_are_no_objects(remote):
    bucket, _, key = remote.uri.removeprefix("s3://").partition("/")
    store_of(remote).service.file_system.call_s3("put_object", Bucket=bucket, Key=f"{key}/a/", Body=b"")
    remote.write("a/1", b"")
    assert names(remote.list()) == ["a/1"]
    assert remote.list_folders() == ["a"]


def test_delete_tree_reports_what_stays(remote, monkeypatch):
    for name in "fg":
        remote.write(name, b"")
    file_system = store_of(remote).service.file_system
    call = file_system.call_s3

    def refuse(operation, **request):
        if operation == "delete_objects":
            return {"Errors": [{"Key": "f", "Code": "AccessDenied"}]}
        return call(operation, **request)

    monkeypatch.setattr(file_system, "call_s3", refuse)
    with pytest.raises(StorageError, match="/f is not accessible: access denied"):
        remote.delete_tree()


@pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
@pytest.mark.parametrize("times", [2, 99])
def test_keys_that_are_not_deleted_just_now_are_deleted_later(remote, monkeypatch, code, times):
    for name in "abc":
        remote.write(name, b"")
    service, asked, slept = store_of(remote).service, [], []
    call = service.file_system.call_s3

    def refusing_b(operation, **request):
        if operation != "delete_objects":
            return call(operation, **request)
        keys = [item["Key"] for item in request["Delete"]["Objects"]]
        asked.append([key[-1] for key in keys])
        refused = [key for key in keys if key.endswith("b") and len(asked) <= times]
        kept = [{"Key": key} for key in keys if key not in refused]
        if kept:
            call(operation, **{**request, "Delete": {"Objects": kept}})
        return {"Errors": [{"Key": key, "Code": code, "Message": "Try again."} for key in refused]}

    monkeypatch.setattr(service.file_system, "call_s3", refusing_b)
    monkeypatch.setattr("seit_ray.storage.s3.time.sleep", slept.append)
    if times == 2:
        remote.delete_tree()
        assert asked == [["a", "b", "c"], ["b"], ["b"]]
    else:
        with pytest.raises(StorageError, match="/b was refused") as error:
            remote.delete_tree()
        assert error.value.kind == "unavailable"
        assert names(remote.list()) == ["b"]
    assert slept == [0.5 * 2**n for n in range(len(asked) - 1)]
    assert len(asked) <= 6


def test_delete_tree_refuses_a_whole_bucket(s3_server, bucket):
    folder = Folder(f"s3://{bucket}", **s3_server.credentials)
    for operation in (folder.delete_tree, lambda: Folder("/").delete_tree()):
        with pytest.raises(StorageError, match="expected a folder in it"):
            operation()


class BreakingService:
    """Answers, but breaks the first bodies."""

    scheme = "s3"

    def __init__(self, breaks):
        self.breaks, self.requests, self.closed = breaks, 0, 0

    async def get(self, bucket, key, span):
        self.requests += 1
        return Answer("", 4, self.read, self.close, lambda data: True, lambda: False)

    async def read(self):
        if self.requests <= self.breaks:
            raise aiohttp.ClientPayloadError("cut off")
        return b"data"

    def close(self):
        self.closed += 1


@pytest.mark.parametrize(("breaks", "requests"), [(0, 1), (2, 3), (9, 4)])
def test_broken_bodies_are_fetched_again(monkeypatch, breaks, requests):
    async def no_pause(_):
        return None

    async def get():
        return await bodies.get_object(service, asyncio.Semaphore(1), "bucket", "key")

    service = BreakingService(breaks)
    monkeypatch.setattr(bodies.asyncio, "sleep", no_pause)
    if breaks < 4:
        assert asyncio.run(get()) == b"data"
    else:
        with pytest.raises(aiohttp.ClientPayloadError) as error:
            asyncio.run(get())
        assert explain(error.value, "s3://b/k").kind == "unavailable"
    assert service.requests == service.closed == requests


def test_half_of_the_credentials():
    with pytest.raises(StorageError, match="expected both or neither"):
        Folder("s3://b", access_key_id="only")
    with pytest.raises(StorageError, match="expected one of them"):
        Folder("s3://b", access_key_id="a", secret_access_key="b", anonymous=True)


@pytest.mark.parametrize("code", ["NotImplemented", "MethodNotAllowed"])
def test_a_service_that_deletes_one_by_one(remote, monkeypatch, code):
    for name in ("a", "b/c", "d"):
        remote.write(name, b"")
    file_system = store_of(remote).service.file_system
    call, calls = file_system.call_s3, []

    def without_delete_objects(operation, **request):
        calls.append(operation)
        if operation == "delete_objects":
            answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
            raise OSError("no such request") from ClientError(answer, "DeleteObjects")
        return call(operation, **request)

    monkeypatch.setattr(file_system, "call_s3", without_delete_objects)
    remote.delete_tree()
    assert calls.count("delete_object") == 3
    assert list(remote.list()) == []


def watched(call, asked):
    """A request of the client, noted with who pays for it."""

    async def asking(**request):
        asked.append((call.__name__, request.pop("RequestPayer", None)))  # which the server of the tests does not know
        return await call(**request)

    asking.__name__ = call.__name__
    return asking


def test_requester_pays_is_said_with_every_request(s3_server, remote, monkeypatch):
    folder = Folder(remote.uri, **s3_server.credentials, requester_pays=True)
    client, asked = store_of(folder).service.file_system.s3, []
    requests = {"get_object", "put_object", "head_object", "list_objects_v2", "delete_object"}
    for name in requests:
        monkeypatch.setattr(client, name, watched(getattr(client, name), asked))
    folder.write("f", b"1")
    assert folder.read("f") == b"1"
    with folder.open("f") as file:
        assert file.read() == b"1"
    assert names(folder.list()) == ["f"]
    folder.delete("f")
    assert {name for name, _ in asked} == requests
    assert {payer for _, payer in asked} == {"requester"}


def test_connections_are_those_of_the_client_and_of_a_read(s3_server, remote):
    folder = Folder(remote.uri, **s3_server.credentials, connections=3)
    service = store_of(folder).service
    assert service.connections == service.file_system.s3.meta.config.max_pool_connections == 3
    assert store_of(remote).service.connections == 64
