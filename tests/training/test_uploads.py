"""Checkpoints on object storage that fails while they are uploaded: never taken for whole, and the run goes on."""

import os
import signal
import sys
import time
import uuid

import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names, load_checkpoint
from tests.end_to_end.processes import ROOT, environment
from tests.fault_proxy import Fault
from tests.tiny_trainers import comparable, noisy_trainer
from tests.warm import processes as warm

STEPS_AN_EPOCH = (4, 7, 11, 14)  # a checkpoint after each
STATE, MARKER = "step-000000011/state.safetensors", "step-000000011/checkpoint.json"
DENIED = {"code": "AccessDenied", "status": 403}
SLOW = {"code": "SlowDown", "status": 503}
BROKEN = {"code": "InternalError", "status": 500}
STAYING = {
    "the state is refused": (Fault("error", "PUT", key=STATE, **DENIED), "access denied"),
    "the state arrives damaged": (Fault("corrupt upload", "PUT", key=STATE), "arrived damaged"),
    "the marker is refused": (Fault("error", "PUT", key=MARKER, **DENIED), "access denied"),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run on disk."""
    run = Folder(tmp_path_factory.mktemp("undisturbed"))
    noisy_trainer(run).train()
    return run


@pytest.fixture(scope="module")
def bucket(s3_server):
    return Folder(f"s3://{s3_server.create_bucket('uploads')}", **s3_server.credentials)


@pytest.fixture
def run(bucket):
    """A run's folder in the bucket."""
    return bucket.join(uuid.uuid4().hex[:8])


@pytest.fixture
def faulty(run, fault_proxy):
    """The same folder behind the proxy."""
    return Folder(run.uri, **fault_proxy.server.credentials)


def goes_on_as(run, undisturbed, start):
    """Continue a run at a step; whether it ends in the numbers and the state of the undisturbed one."""
    starts = []
    noisy_trainer(run, on_progress=lambda phase, done, total, note: starts.append(done)).train()
    assert starts[0] == start
    found, expected = (load_checkpoint(folder)[0] for folder in (run, undisturbed))
    same = found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    return same and comparable(run) == comparable(undisturbed)


@pytest.mark.slow
def test_uploads_that_fail_for_a_while_do_not_show(run, faulty, undisturbed, fault_proxy):
    faults = [
        Fault("error", "PUT", key=STATE, times=2, **SLOW),
        Fault("corrupt upload", "PUT", key=STATE, times=1),
        Fault("reset", "PUT", key=MARKER, times=1),
        Fault("lose answer", "PUT", key="step-000000007", times=1),
        Fault("error", "PUT", key="metrics.jsonl", times=2, **BROKEN),
    ]
    with fault_proxy.failing(*faults):
        noisy_trainer(faulty).train()
    assert comparable(run) == comparable(undisturbed)
    assert checkpoint_names(run) == ["step-000000011", "step-000000014"]
    assert goes_on_as(run, undisturbed, STEPS_AN_EPOCH[-1])  # its checksum is right


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "words"), STAYING.values(), ids=STAYING)
def test_a_failed_upload_ends_the_run_and_the_checkpoint_before_counts(
    run, faulty, undisturbed, fault_proxy, fault, words
):
    with fault_proxy.failing(fault), pytest.raises(ValueError, match=words) as error:
        noisy_trainer(faulty).train()
    assert "\n" not in str(error.value)
    assert STATE.partition("/")[0] in str(error.value)
    assert checkpoint_names(run) == ["step-000000004", "step-000000007"]
    assert goes_on_as(run, undisturbed, 7)


@pytest.mark.slow
def test_a_run_killed_while_it_uploads(run, faulty, undisturbed, fault_proxy):
    upload = Fault("delay", "PUT", key=STATE, times=1, seconds=5)
    process = warm.Popen(
        [sys.executable, "-c", f"from tests.training.test_uploads import train; train({run.uri!r})"],
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS="1", **variables(fault_proxy.server)),
    )
    with fault_proxy.failing(upload):
        deadline = time.monotonic() + 120
        while not upload.fired:
            assert process.poll() is None, "ended before it had to upload"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not run.exists(f"checkpoints/{MARKER}")
    assert checkpoint_names(run) == ["step-000000004", "step-000000007"]
    assert goes_on_as(run, undisturbed, 7)


@pytest.mark.slow
def test_a_checkpoint_that_was_changed_in_the_bucket_is_passed_over(run):
    noisy_trainer(run).train()
    before, name = comparable(run), "checkpoints/step-000000014/state.safetensors"
    data = bytearray(run.read(name))
    data[len(data) // 2] ^= 1
    run.write(name, bytes(data))
    told = []
    noisy_trainer(run, on_progress=lambda phase, done, total, note: told.append((done, note))).train()
    assert "step-000000014 cannot be read (wrong checksum): the one before it is taken" in told[0][1]
    assert told[1][0] == 11
    assert comparable(run) == before


def variables(server):
    """Address and keys of a server, for a process."""
    return {
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_REGION": server.region,
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
    }


def train(uri):
    """What the process that is killed does."""
    torch.set_num_threads(1)
    noisy_trainer(Folder(uri)).train()
