"""What only Google Cloud and Azure have: their keys, versions, errors; on real servers but where it is said."""

import re
import sys

import pytest

from seit_ray.storage import Folder, StorageError, bodies, objects, patience
from seit_ray.storage.causes import CAUSES
from seit_ray.storage.errors import explain
from tests.fault_proxy import Fault, running_fault_proxy
from tests.storage.conftest import cloud_folder

DATA = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(bodies, "PAUSE_S", 0.01)
    monkeypatch.setattr(patience, "REQUEST_PAUSE_S", 0.01)


def service_of(folder):
    """The service that this folder uses."""
    return folder._store().service


def names(entries):
    return [entry.name for entry in entries]


@pytest.fixture
def google(request, monkeypatch, buckets):
    """An empty folder of Google Cloud."""
    return cloud_folder(request, monkeypatch, buckets, "google_server")


@pytest.fixture
def azure(request, monkeypatch, buckets):
    """An empty folder of Azure."""
    return cloud_folder(request, monkeypatch, buckets, "azure_server")


@pytest.fixture(scope="session", params=["google_server", "azure_server"], ids=["gs", "az"])
def proxy(request):
    """A proxy before each cloud's server, with faults on demand."""
    with running_fault_proxy(request.getfixturevalue(request.param)) as proxy:
        yield proxy


@pytest.fixture
def faulty(request, proxy, monkeypatch, buckets):
    """An empty folder behind the proxy."""
    name = "google_server" if "STORAGE_EMULATOR_HOST" in proxy.server.variables else "azure_server"
    folder = cloud_folder(request, monkeypatch, buckets, name)
    for variable, value in proxy.server.variables.items():
        monkeypatch.setenv(variable, value)
    return folder


def test_a_missing_bucket(cloud):
    scheme = cloud.uri.partition(":")[0]
    folder = Folder(f"{scheme}://no-such-bucket/data")
    assert folder.size("f") is None
    where = "in a (bucket|container) that does not exist"
    for operation in (folder.check_readable, folder.check_writable, folder.list_folders, folder.delete_tree):
        with pytest.raises(StorageError, match=where):
            operation()
    for operation in (lambda: folder.read("f"), lambda: folder.write("f", b""), lambda: list(folder.list())):
        with pytest.raises(StorageError, match=f"no-such-bucket/.*{where}" if scheme == "az" else where) as error:
            operation()
        assert error.value.kind == "invalid"  # not the fault of one object: it must stop the work


def test_versions_are_compared_however_an_object_is_read(cloud):
    cloud.write("f", b"old")
    (entry,) = cloud.list()
    assert entry.version == entry.etag == cloud.version("f")
    assert cloud.read_many(["f"], versions=[entry.version]) == [b"old"]
    with cloud.open("f", entry.version) as file:
        assert file.read() == b"old"
    with cloud.open("f") as file:
        cloud.write("f", b"new")
        with pytest.raises(StorageError, match="changed since it was listed") as error:
            file.read()
        assert error.value.kind == "changed"
    assert cloud.version("f") != entry.version
    (found,) = cloud.read_many(["f"], versions=[entry.version])
    assert found.kind == "changed"
    with pytest.raises(StorageError, match="changed since it was listed"):
        cloud.open("f", entry.version)
    assert cloud.version("nowhere") is None


def test_create_is_settled_by_the_service_alone(cloud, monkeypatch):
    def no_sleep(seconds):
        raise AssertionError("no pause is needed")

    monkeypatch.setattr(objects.time, "sleep", no_sleep)
    assert cloud.create("f", b"1")
    assert not cloud.create("f", b"2")
    service, (bucket, key) = service_of(cloud), service_of(cloud).split(cloud._path_of("f"))
    assert not service.put_new(bucket, key, b"3")  # the condition, not the look before it
    assert service.put_new(bucket, key + "2", b"4")
    assert cloud.read_many(["f", "f2"]) == [b"1", b"4"]


def test_listings_come_in_pages(cloud, monkeypatch):
    wanted = [f"{folder}/{i}" for folder in "abc" for i in range(4)] + ["top"]
    for name in wanted:
        cloud.write(name, b"x")
    service = service_of(cloud)
    page, asked = service.page, []

    def small_pages(*place, **query):
        asked.append(query)
        return page(*place, **{"limit": 3, **query})

    monkeypatch.setattr(service, "page", small_pages)
    listing = cloud.list()
    assert next(listing).name == "a/0"
    assert len(asked) <= 2  # a page is asked for ahead
    assert ["a/0", *names(listing)] == wanted
    assert len(asked) >= 5
    assert cloud.list_folders() == ["a", "b", "c"]
    assert names(cloud.list("b/")) == wanted[4:8]
    cloud.delete_tree()
    assert list(cloud.list()) == []


def test_a_blob_in_blocks(azure, monkeypatch):
    config = service_of(azure).client._config
    monkeypatch.setattr(config, "max_single_put_size", 1 << 10)
    monkeypatch.setattr(config, "max_block_size", 1 << 14)
    azure.write("f", DATA)
    azure.write("f", DATA[::-1])
    assert azure.read("f") == DATA[::-1]


FAULTS = {
    "refused in a burst": {"kind": "error", "times": 2, "status": 503, "code": "ServerBusy"},
    "too many requests": {"kind": "error", "times": 1, "status": 429, "code": "TooManyRequests"},
    "internal errors": {"kind": "error", "times": 1, "status": 500, "code": "InternalError"},
    "resets": {"kind": "reset", "times": 2},
}
DAMAGED = {
    "truncated bodies": {"kind": "truncate", "times": 1},
    "flipped bits": {"kind": "corrupt", "times": 1},
    "bodies that break off": {"kind": "abort", "times": 1},
}


@pytest.mark.parametrize("fault", {**FAULTS, **DAMAGED}.values(), ids={**FAULTS, **DAMAGED})
def test_reads_survive(proxy, faulty, fault):
    faulty.write("f", DATA)
    with proxy.failing(Fault(**fault)):
        assert faulty.read("f") == DATA


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_writes_and_listings_survive(proxy, faulty, fault):
    method = "POST" if faulty.uri.startswith("gs") else "PUT"
    with proxy.failing(Fault(**{**fault, "method": method})):
        faulty.write("f", DATA)
    with proxy.failing(Fault(**fault)):
        assert names(faulty.list()) == ["f"]
    with proxy.failing(Fault(**{**fault, "method": "DELETE"})):
        faulty.delete_tree()
    assert list(faulty.list()) == []


@pytest.mark.parametrize("kind", ["truncate", "abort", "reset"])
def test_ranges_survive(proxy, faulty, kind):
    faulty.write("f", DATA)
    with faulty.open("f") as file, proxy.failing(Fault(kind, times=1)):
        file.seek(50_000)
        assert file.read() == DATA[50_000:]
        file.seek(10)
        assert file.read(20) == DATA[10:30]


def test_an_upload_that_arrives_damaged_is_sent_again(proxy, faulty):
    method = "POST" if faulty.uri.startswith("gs") else "PUT"
    with proxy.failing(Fault("corrupt upload", method, times=1)):
        faulty.write("f", DATA)
    assert faulty.read("f") == DATA


def test_a_server_that_is_away(cloud, monkeypatch):
    nobody = "http://127.0.0.1:9"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", nobody)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"BlobEndpoint={nobody}/a;AccountName=a;AccountKey=dGVzdA==")
    for operation in (cloud.check_readable, cloud.check_writable, lambda: cloud.read("f")):
        with pytest.raises(StorageError, match="is unreachable: no server answers there") as error:
            operation()
        assert error.value.kind == "unavailable"


def test_the_wrong_key_of_azure(azure_server, azure, monkeypatch):
    azure.write("f", b"1")
    right = azure_server.variables["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", re.sub("AccountKey=.*", "AccountKey=d3Jvbmc=", right))
    for operation in (azure.check_readable, lambda: azure.read("f")):
        with pytest.raises(StorageError, match="is not accessible") as error:
            operation()
        assert error.value.kind in ("credentials", "denied")
        assert "d3Jvbmc=" not in str(error.value)


def test_anonymous_azure_is_not_signed(azure_server, azure):
    azure.write("f", b"1")
    with pytest.raises(StorageError, match=r"is not accessible|does not exist") as error:  # the container is private
        Folder(azure.uri, anonymous=True).read("f")
    assert error.value.kind != "unavailable"
    from azure.storage.blob import BlobServiceClient

    text = azure_server.variables["AZURE_STORAGE_CONNECTION_STRING"]
    with BlobServiceClient.from_connection_string(text) as client:
        client.create_container("public-tests", public_access="container")
        client.get_blob_client("public-tests", "f").upload_blob(b"for all")
    assert Folder("az://public-tests", anonymous=True).read("f") == b"for all"


@pytest.mark.parametrize(
    ("variables", "options", "text"),
    [
        ({}, {}, r"az:// without an account; expected AZURE_STORAGE_CONNECTION_STRING, .*storage.account"),
        ({"AZURE_STORAGE_CONNECTION_STRING": "AccountName=a"}, {"account": "b"}, "storage.account b and .*drop"),
    ],
)
def test_accounts_of_azure(monkeypatch, variables, options, text):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=text):
        Folder("az://c/k", **options).check_readable()


@pytest.mark.parametrize(
    ("text", "account", "endpoint"),
    [
        (None, "me", "https://me.blob.core.windows.net"),
        ("AccountName=me;AccountKey=k=;EndpointSuffix=core.x.cn", "", "https://me.blob.core.x.cn"),
        ("BlobEndpoint=http://h/me;AccountName=me;AccountKey=k==", "", "http://h/me"),
    ],
)
def test_the_address_of_an_account_holds_no_key(text, account, endpoint):
    from seit_ray.storage.az import endpoint_of

    assert endpoint_of(text, account) == endpoint


def test_google_without_credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(StorageError, match=r"no credentials found.*GOOGLE_APPLICATION_CREDENTIALS.*anonymous") as error:
        Folder("gs://b/k").check_readable()
    assert error.value.kind == "credentials"


def test_requester_pays_names_the_project(google, monkeypatch):
    folder = Folder(google.uri, requester_pays=True)
    with pytest.raises(StorageError, match=r"requester_pays without a project; .*set GOOGLE_CLOUD_PROJECT"):
        folder.check_readable()
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "payer")
    service, asked = service_of(folder), []
    session = service.session

    class Watched:
        async def request(self, method, url, **rest):
            asked.append((method, dict(url.query)))
            return await session.request(method, url, **rest)

    monkeypatch.setattr(service, "session", Watched())
    folder.write("f", b"1")
    assert folder.read("f") == b"1"
    assert names(folder.list()) == ["f"]
    folder.delete_tree()
    assert {method for method, _ in asked} == {"POST", "GET", "DELETE"}
    assert {query.get("userProject") for _, query in asked} == {"payer"}


def test_connections_bound_what_is_asked_at_once(cloud, monkeypatch):
    folder = Folder(cloud.uri, connections=3)
    wanted = [f"{i:02}" for i in range(20)]
    for name in wanted:
        folder.write(name, name.encode())
    service, now, most = service_of(folder), [], []
    get = service.get

    async def counted(*place):
        now.append(place)
        most.append(len(now))
        answer = await get(*place)
        now.pop()
        return answer

    monkeypatch.setattr(service, "get", counted)
    assert folder.read_many(wanted) == [name.encode() for name in wanted]
    assert max(most) == 3
    assert service_of(cloud) is not service


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("az", "adlfs")])
def test_a_package_that_is_not_installed(monkeypatch, scheme, package):
    monkeypatch.delitem(sys.modules, f"seit_ray.storage.{scheme}", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StorageError, match=rf"{scheme}://b/k needs the package {package}.*pip install {package}"):
        Folder(f"{scheme}://b/k", connections=7).read("f")


class AzureError(Exception):
    """As azure.core's HttpResponseError."""

    def __init__(self, code, status):
        super().__init__(code)
        self.error_code, self.status_code = code, status


def google_error(status, message):
    from seit_ray.storage.gs_json import refusal

    return refusal(status, f'{{"error": {{"code": {status}, "message": "{message}"}}}}')


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (google_error(404, "No such object: b/k"), "missing"),
        (google_error(404, "The specified bucket does not exist."), "invalid"),
        (google_error(401, "Anonymous caller does not have storage.objects.get access"), "credentials"),
        (google_error(403, "x@y does not have storage.objects.get access"), "denied"),
        (google_error(400, "Bucket is requester pays bucket but no user project provided."), "credentials"),
        (google_error(429, "rate"), "unavailable"),
        (google_error(503, "backend"), "unavailable"),
        (AzureError("BlobNotFound", 404), "missing"),
        (AzureError("ContainerNotFound", 404), "invalid"),
        (AzureError("AuthenticationFailed", 403), "credentials"),
        (AzureError("AuthorizationPermissionMismatch", 403), "denied"),
        (AzureError("BlobArchived", 409), "archived"),
        (AzureError("ServerBusy", 503), "unavailable"),
        (AzureError("SomethingNew", 500), "unavailable"),
    ],
    ids=str,
)
def test_errors_are_of_three_kinds(error, kind):
    explained = explain(error, "gs://b/k")
    assert explained.kind == kind
    assert re.fullmatch(r"gs://b/k .*; expected .*; [^\n]+", str(explained))


def test_causes_are_complete_lines():
    for kind, *words in CAUSES.values():
        assert kind in ("missing", "archived", "unavailable", "denied", "credentials", "full", "invalid")
        assert all(words)
