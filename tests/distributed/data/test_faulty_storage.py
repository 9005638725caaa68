"""A tokenising job on object storage that fails in every way: the same bytes in the end, or one clear line."""

import uuid

import pytest

from seit_ray.storage import Folder, objects
from tests.distributed.data.jobs import run
from tests.distributed.data.oracle import check_complete, check_same
from tests.fault_proxy import Fault
from tests.tiny_images import image_files, write_files, write_tokenizer

FILES = image_files(80) | {"cat/broken.png": b"no picture"}
SETTINGS = {"rows_per_shard": 20, "patience_s": 3.0}
SLOW = {"code": "SlowDown", "status": 503}
BROKEN = {"code": "InternalError", "status": 500}
EXPIRED = {"code": "ExpiredToken", "status": 400}
# Several kinds in one job: each fault asserts that it happened. Those that come at every n-th request have different
# primes for n: no request meets so many in a row that the client gives up.
PASSING = {
    "reads fail": [
        Fault("error", times=4, every=7, **SLOW),
        Fault("error", times=4, every=11, **BROKEN),
        Fault("reset", times=4, every=13),
        Fault("abort", times=4, every=17),
        Fault("truncate", times=4, every=19),
    ],
    "reads are damaged": [Fault("corrupt", key="photos", times=8), Fault("corrupt", key="records", times=3)],
    "manifest and tokenizer are damaged on the way": [
        # of each fewer than the client tries: four parts at a time may read one file, and one of them meet all
        Fault("corrupt", key="manifest/train", times=3, every=2),
        Fault("corrupt", key="manifest/val", times=1),
        Fault("corrupt", key="manifest.json", times=1),
        Fault("truncate", key="tokenizer.json", times=3, every=2),
        Fault("truncate", key="tokenizer.safetensors", times=3, every=2),
    ],
    "writes fail": [
        Fault("error", "PUT", times=4, every=5, **SLOW),
        Fault("error", "PUT", times=4, every=4, **BROKEN),
        *[Fault(kind, "PUT", times=4, every=5) for kind in ("reset", "corrupt upload", "lose answer")],
    ],
    "listings break and it is slow": [
        Fault("truncate", listings=True, times=1),
        Fault("abort", listings=True, times=2),
        Fault("error", listings=True, times=2, **SLOW),
        Fault("delay", times=20, seconds=0.3),
        Fault("delay", "PUT", times=5, seconds=0.3),
    ],
}
# One after the other: each ends the job, which goes on from there.
STAYING = {
    "credentials end half way": [
        ([Fault("error", key="photos", every=40, **EXPIRED)], "the session token has expired")
    ],
    "writing fails, further on each time": [
        (
            [Fault("error", "PUT", key="records", every=3, code="AccessDenied", status=403)],
            "access denied",
        ),
        # of whichever parts are left: those in the hands of other actors were finished meanwhile
        ([Fault("corrupt upload", "PUT", key="shard-")], "arrived damaged"),
        (
            [Fault("error", "PUT", key="dataset.json", **EXPIRED)],
            "dataset.json is not accessible: the session token has expired",
        ),
    ],
}


@pytest.fixture(scope="module")
def bucket(s3_server):
    """A bucket with images and a tokenizer."""
    folder = Folder(f"s3://{s3_server.create_bucket('faulty')}", **s3_server.credentials)
    write_files(folder.join("photos"), FILES)
    write_tokenizer(folder.join("fitted/tokenizer"))
    return folder


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(objects, "SETTLE_S", 0.2)


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, bucket):
    """The folder of a dataset made without faults."""
    output = bucket.join("undisturbed")
    run(ray_cluster, bucket.join("photos"), bucket.join("fitted/tokenizer"), output, **SETTINGS)
    check_complete(output, set(FILES))
    return output


@pytest.fixture
def job(ray_cluster, bucket, fault_proxy):
    """(a function that runs the job behind the proxy, its output without the proxy)."""
    faulty, name = Folder(bucket.uri, **fault_proxy.server.credentials), f"tokens-{uuid.uuid4().hex[:8]}"

    def start():
        run(ray_cluster, faulty.join("photos"), faulty.join("fitted/tokenizer"), faulty.join(name), **SETTINGS)

    return start, bucket.join(name)


@pytest.mark.slow
@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_what_passes_does_not_show(fault_proxy, undisturbed, job, faults):
    start, output = job
    with fault_proxy.failing(*faults):
        start()
    assert output.exists("dataset.json")
    check_same(output, undisturbed, set(FILES))  # asserts: every image once, the same bytes, nothing left over


@pytest.mark.slow
@pytest.mark.parametrize("endings", STAYING.values(), ids=STAYING)
def test_what_stays_is_one_line_and_a_rerun_finishes(fault_proxy, undisturbed, job, endings):
    start, output = job
    for faults, words in endings:
        with fault_proxy.failing(*faults), pytest.raises(ValueError, match=words) as error:
            start()
        assert "\n" not in str(error.value)
        assert not output.exists("dataset.json")
        assert not output.exists("_lock.json")
    start()
    check_same(output, undisturbed, set(FILES))


@pytest.mark.slow
def test_an_image_that_stays_damaged_or_denied_is_a_reject(fault_proxy, job):
    start, output = job
    denied = Fault("error", key="cat/00004", code="AccessDenied", status=403)
    with fault_proxy.failing(Fault("corrupt", key="dog/00011"), denied):
        start()
    dataset = check_complete(output, set(FILES))
    reasons = {row["key"]: row["reason"] for name in dataset.info.splits for row in dataset.rejected(name).to_pylist()}
    assert set(reasons) == {"cat/broken.png", "dog/00011.png", "cat/00004.png"}
    assert "arrived damaged" in reasons["dog/00011.png"]
    assert "access denied" in reasons["cat/00004.png"]
