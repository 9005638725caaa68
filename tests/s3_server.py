"""A real S3 server on loopback for tests: OpenStack Swift with its s3api, from `pip install swift`.

It checks signatures and digests, answers ranges and does multipart uploads. One device, one replica.
"""

import contextlib
import fcntl
import getpass
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 90
SERVICES = ("account", "container", "object")
FILTERS = [
    "catch_errors",
    "gatekeeper",
    "healthcheck",
    "cache",
    "listing_formats",
    "bulk",
    "s3api",
    "tempauth",
]
FILTERS += ["copy", "slo", "dlo", "versioned_writes", "symlink"]
FILTER_OPTIONS = {
    "cache": {"paste.filter_factory": "tests.s3_cache:filter_factory"},
    "s3api": {"location": "us-east-1", "s3_acl": "false", "check_bucket_owner": "false"},
    "tempauth": {"user_test_tester": "testing .admin"},
    "versioned_writes": {"allow_versioned_writes": "true", "allow_object_versioning": "true"},
}
# One process for the three rings: starting swift-ring-builder nine times takes ten times as long.
BUILD_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for name, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(4, 1, 1)
    device = {"id": 0, "region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": ""}
    for use in ("", "replication_"):
        device |= {use + "ip": "127.0.0.1", use + "port": int(port)}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""


@dataclass(frozen=True)
class S3Server:
    """Where the server listens and who may use it; the credentials work for every bucket."""

    endpoint_url: str
    access_key_id: str = "test:tester"
    secret_access_key: str = "testing"
    region: str = "us-east-1"

    @property
    def credentials(self) -> dict[str, str]:
        """Keyword arguments of storage.Folder."""
        return {
            "endpoint_url": self.endpoint_url,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
        }

    def create_bucket(self, name: str) -> str:
        """Makes an empty bucket and gives its name back, which begins with `name`: others may use the same server."""
        from s3fs import S3FileSystem  # half a second, which tests without S3 need not wait for

        file_system = S3FileSystem(
            key=self.access_key_id,
            secret=self.secret_access_key,
            endpoint_url=self.endpoint_url,
            skip_instance_cache=True,
        )
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        file_system.mkdir(unique)
        return unique


def is_installed() -> bool:
    """Whether swift can be imported here."""
    return importlib.util.find_spec("swift") is not None


@contextlib.contextmanager
def running_s3_server(folder: Path) -> Iterator[S3Server]:
    """A server with its data in folder, stopped on exit; RuntimeError when not installed or not starting."""
    if not is_installed():
        raise RuntimeError("no S3 server; expected the package swift; install it with: pip install swift")
    with contextlib.ExitStack() as stack:
        yield _started(Path(folder), stack)[0]


def _started(folder: Path, stack: contextlib.ExitStack) -> tuple[S3Server, list[int]]:
    """(a server that the stack ends, the pids of its processes)."""
    ports = dict(zip(("proxy", *SERVICES), free_ports(4), strict=True))
    _configure(folder, ports)
    processes = {name: stack.enter_context(_running(folder, name)) for name in (*SERVICES, "proxy")}
    endpoint_url = f"http://127.0.0.1:{ports['proxy']}"
    _wait_until_healthy(endpoint_url, ports, processes, folder)
    return S3Server(endpoint_url), [process.pid for process in processes.values()]


def shared_s3_server(folder: Path) -> S3Server:
    """The server of this folder, started by whoever asks first; it runs until `end_shared_s3_server`."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        told = folder / "server.json"
        if not told.exists():
            command = [sys.executable, "-m", __name__, folder]
            subprocess.run(command, check=True, cwd=Path(__file__).parents[1], timeout=2 * START_TIMEOUT_S)
        return S3Server(json.loads(told.read_text())[0])


def end_shared_s3_server(folder: Path) -> None:
    """End the processes of a folder's server, if one was started."""
    told = folder / "server.json"
    for pid in json.loads(told.read_text())[1] if told.exists() else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    told.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def _configure(folder: Path, ports: dict[str, int]) -> None:
    """Writes the rings and one configuration file a process."""
    for name in ("etc", "srv/d1", "cache", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    etc = folder / "etc"
    common = {
        "bind_ip": "127.0.0.1",
        "swift_dir": etc,
        "user": getpass.getuser(),
        "workers": 0,  # serve in the one process that we can stop
        "log_level": "WARNING",
    }
    _write_ini(
        etc / "swift.conf",
        {
            "swift-hash": {"swift_hash_path_prefix": "test", "swift_hash_path_suffix": "test"},
            "storage-policy:0": {"name": "default", "default": "yes"},
        },
    )
    storage = {
        "devices": folder / "srv",
        "mount_check": "false",
        "disable_fallocate": "true",
        "fallocate_reserve": 0,
    }
    for name in SERVICES:
        app = {"use": f"egg:swift#{name}", "recon_cache_path": folder / "cache"}
        sections = {
            "DEFAULT": {**common, **storage, "bind_port": ports[name]},
            "pipeline:main": {"pipeline": f"{name}-server"},
            f"app:{name}-server": app,
        }
        _write_ini(etc / f"{name}-server.conf", sections)
    proxy = {"use": "egg:swift#proxy", "allow_account_management": "true", "account_autocreate": "true"}
    sections = {
        "DEFAULT": {**common, "bind_port": ports["proxy"]},
        "pipeline:main": {"pipeline": " ".join([*FILTERS, "proxy-server"])},
        "app:proxy-server": proxy,
    }
    for name in FILTERS:
        options = FILTER_OPTIONS.get(name, {})
        sections[f"filter:{name}"] = (
            options if "paste.filter_factory" in options else {"use": f"egg:swift#{name}", **options}
        )
    _write_ini(etc / "proxy-server.conf", sections)
    command = [sys.executable, "-c", BUILD_RINGS, str(etc), *(str(ports[name]) for name in SERVICES)]
    subprocess.run(command, check=True, capture_output=True, timeout=START_TIMEOUT_S)


def _write_ini(path: Path, sections: dict[str, dict]) -> None:
    lines = []
    for section, options in sections.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in options.items()), ""]
    path.write_text("\n".join(lines))


@contextlib.contextmanager
def _running(folder: Path, name: str) -> Iterator[subprocess.Popen]:
    """One server process, stopped on exit whatever happens."""
    program = Path(sys.executable).parent / f"swift-{name}-server"
    with (folder / "log" / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, program, folder / "etc" / f"{name}-server.conf"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(
    endpoint_url: str, ports: dict[str, int], processes: dict[str, subprocess.Popen], folder: Path
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                log = (folder / "log" / f"{name}.log").read_text()
                raise RuntimeError(f"swift-{name}-server ended with {process.returncode}: {log[-2000:]}")
        try:
            for name in SERVICES:
                socket.create_connection(("127.0.0.1", ports[name]), timeout=5).close()
            with urllib.request.urlopen(f"{endpoint_url}/healthcheck", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the S3 server did not start within {START_TIMEOUT_S} s; see {folder / 'log'}")


if __name__ == "__main__":
    with contextlib.ExitStack() as _stack:
        _server, _pids = _started(Path(sys.argv[1]), _stack)
        Path(sys.argv[1], "server.json").write_text(json.dumps([_server.endpoint_url, _pids]))
        os._exit(0)  # without ending what was started
