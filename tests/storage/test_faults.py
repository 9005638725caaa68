"""Object storage that fails: what passes is ridden out, what stays is one clear line, and no byte is ever wrong."""

import uuid

import pytest

from seit_ray.storage import Folder, StorageError, bodies, objects
from tests.fault_proxy import Fault

DATA = bytes(range(256)) * 400
SLOW = {"code": "SlowDown", "status": 503}
BROKEN = {"code": "InternalError", "status": 500}
EXPIRED = {"code": "ExpiredToken", "status": 400}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(objects, "SETTLE_S", 0.2)
    monkeypatch.setattr(bodies, "PAUSE_S", 0.01)


@pytest.fixture
def folder(fault_proxy, bucket):
    """An empty folder behind the proxy."""
    return Folder(f"s3://{bucket}/{uuid.uuid4().hex}", **fault_proxy.server.credentials)


@pytest.fixture
def straight(folder, s3_server):
    """The same folder without the proxy."""
    return Folder(folder.uri, **s3_server.credentials)


PASSING = {
    "requests refused in a burst": {"kind": "error", "times": 2, **SLOW},
    "internal errors": {"kind": "error", "times": 2, **BROKEN},
    "resets": {"kind": "reset", "times": 2},
    "latency": {"kind": "delay", "times": 1, "seconds": 0.3},
}
DAMAGED = {
    "truncated bodies": {"kind": "truncate", "times": 2},
    "flipped bits": {"kind": "corrupt", "times": 2},
    "bodies that break off": {"kind": "abort", "times": 2},
}


@pytest.mark.parametrize("fault", {**PASSING, **DAMAGED}.values(), ids={**PASSING, **DAMAGED})
def test_reads_survive(fault_proxy, folder, fault):
    folder.write("f", DATA)
    with fault_proxy.failing(Fault(**fault)):
        assert folder.read("f") == DATA


def test_many_reads_at_once_survive_all_of_it(fault_proxy, folder):
    contents = {f"{i:02}": bytes([i]) * 1000 + DATA for i in range(30)}
    for name, data in contents.items():
        folder.write(name, data)
    faults = [Fault(**{**fault, "times": 5}) for fault in DAMAGED.values()]
    with fault_proxy.failing(*faults):
        assert folder.read_many(list(contents)) == list(contents.values())


@pytest.mark.parametrize("fault", DAMAGED.values(), ids=DAMAGED)
def test_damage_that_stays_is_an_error_never_a_wrong_byte(fault_proxy, folder, fault):
    folder.write("f", DATA)
    with fault_proxy.failing(Fault(**{**fault, "times": None})), pytest.raises(StorageError) as error:
        folder.read("f")
    assert error.value.kind == "unavailable"  # not the fault of the image
    assert folder.uri in str(error.value)
    assert folder.read("f") == DATA


def test_etags_that_are_no_md5_are_not_taken_for_damage(fault_proxy, s3_server):
    folder = Folder(f"s3://{s3_server.create_bucket('other-etags')}/data", **fault_proxy.server.credentials)
    strange = {"headers": {"ETag": f'"{uuid.uuid4().hex}"'}}
    with fault_proxy.failing(Fault("headers", "PUT", **strange), Fault("headers", "GET", **strange)):
        folder.write("f", DATA)
        assert folder.read("f") == DATA
        folder.write("g", DATA[:-1])
        assert folder.read_many(["f", "g"]) == [DATA, DATA[:-1]]


@pytest.mark.parametrize("fault", [*PASSING.values(), {"kind": "lose answer", "times": 1}], ids=[*PASSING, "lost"])
def test_writes_survive(fault_proxy, folder, straight, fault):
    with fault_proxy.failing(Fault(**{**fault, "method": "PUT"})):
        folder.write("f", DATA)
    assert straight.read("f") == DATA
    assert [entry.name for entry in straight.list(include_hidden=True)] == ["f"]


def test_an_upload_that_arrives_damaged_is_sent_again(fault_proxy, folder, straight):
    with fault_proxy.failing(Fault("corrupt upload", "PUT", times=2)):
        folder.write("f", DATA)
    assert straight.read("f") == DATA
    with (
        fault_proxy.failing(Fault("corrupt upload", "PUT")),
        pytest.raises(StorageError, match="arrived damaged") as error,
    ):
        folder.write("f", DATA[::-1])
    assert error.value.kind == "unavailable"
    assert straight.read("f") == DATA


def test_what_the_server_says_it_stored_is_compared(fault_proxy, folder, straight):
    wrong = {"headers": {"ETag": f'"{"0" * 32}"'}}
    folder.write("before", b"its ETags are MD5s")
    with fault_proxy.failing(Fault("headers", "PUT", times=1, **wrong)):
        folder.write("f", DATA)  # read back, and found to be right
    assert straight.read("f") == DATA
    with (
        fault_proxy.failing(Fault("headers", "PUT", **wrong), Fault("corrupt", "GET")),
        pytest.raises(StorageError, match="was stored damaged; expected what was sent"),
    ):
        folder.write("f", DATA)


@pytest.mark.parametrize("fault", [*PASSING.values(), DAMAGED["truncated bodies"], DAMAGED["bodies that break off"]])
def test_listings_survive(fault_proxy, folder, fault):
    for i in range(20):
        folder.write(f"{i:02}", b"")
    with fault_proxy.failing(Fault(**{**fault, "listings": True})):
        assert [entry.name for entry in folder.list()] == [f"{i:02}" for i in range(20)]


@pytest.mark.parametrize("kind", ["truncate", "abort", "reset"])
def test_ranges_survive(fault_proxy, folder, kind):
    folder.write("f", DATA)
    with fault_proxy.failing(Fault(kind, times=2)), folder.open("f") as file:
        file.seek(50_000)
        assert file.read() == DATA[50_000:]
        file.seek(10)
        assert file.read(20) == DATA[10:30]


def test_ranges_that_are_never_answered_right(fault_proxy, folder):
    folder.write("f", DATA)
    with fault_proxy.failing(Fault("truncate")), folder.open("f") as file:
        file.seek(len(DATA) - 1)
        with pytest.raises(StorageError, match=f"from byte {len(DATA) - 1} was not answered right"):
            file.read(1)


def test_credentials_that_expire(fault_proxy, folder):
    folder.write("f", DATA)
    operations = {"GET": lambda: folder.read("f"), "PUT": lambda: folder.write("f", b"")}
    for method, operation in operations.items():
        with (
            fault_proxy.failing(Fault("error", method, **EXPIRED)),
            pytest.raises(StorageError, match="the session token has expired") as error,
        ):
            operation()
        assert error.value.kind == "credentials"
    assert folder.read("f") == DATA


def test_create_is_atomic_and_not_fooled_by_a_lost_answer(fault_proxy, folder):
    assert folder.create("f", b"1")
    assert not folder.create("f", b"2")
    assert folder.read("f") == b"1"
    with fault_proxy.failing(Fault("lose answer", "PUT", times=1)):
        assert not folder.create("g", b"1")  # the request is repeated, and refused because of the first
    assert folder.read("g") == b"1"


def test_create_where_the_server_knows_no_conditions(fault_proxy, folder, straight, monkeypatch):
    put = folder._store().service.file_system.call_s3

    def without_conditions(operation, **request):
        request.pop("IfNoneMatch", None)
        return put(operation, **request)

    monkeypatch.setattr(folder._store().service.file_system, "call_s3", without_conditions)
    assert folder.create("f", b"1")
    assert not folder.create("f", b"2")
    monkeypatch.setattr(objects.time, "sleep", lambda _: straight.write("g", b"another's"))
    assert not folder.create("g", b"ours")  # written at the same time
    assert straight.read("g") == b"another's"
