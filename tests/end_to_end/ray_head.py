"""A Ray head of its own for tests of jobs and clusters, with token authentication, as a user starts one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import ROOT, end, processes_of
from tests.s3_server import free_ports
from tests.warm import processes as warm

BIN = Path(sys.executable).parent
RAY = (sys.executable, "-m", "ray.scripts.scripts")


@contextlib.contextmanager
def running_head(home: Path, *options: str, gcs_port: int | None = None, **variables: str) -> Iterator[dict[str, str]]:
    """The environment of a shell that knows a fresh head: addresses, token, and RAY_LOGS, its folder."""
    (home / "token").write_text("0123456789abcdef" * 4)
    dashboard, agent, client = free_ports(3)  # together, so that no two are the same
    gcs = gcs_port or 6400 + os.getpid() % 3000
    temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: the names of sockets have a limit
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        # the Python of a job's driver is a fork, whose sys.path is that of a job's folder
        "PATH": os.pathsep.join([str(warm.shared_server()), str(BIN), os.environ["PATH"]]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",  # a busy machine
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nobody waits for what still runs at the end
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
        **warm.variables(),
        **variables,
    }
    command = [BIN / "ray", "start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}"]
    # two heads on one machine would else share the agent's fixed port
    command += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    command += [f"--temp-dir={temporary}", f"--object-store-memory={200 << 20}", "--disable-usage-stats", *options]
    log = open(home / "head.log", "w")  # noqa: SIM115 - closed at the end of the module
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    environment |= {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    environment |= {"GCS": f"127.0.0.1:{gcs}", "RAY_LOGS": f"{temporary}/session_latest/logs"}
    try:
        wait_until_up(environment, process, home / "head.log")
        yield environment
    finally:
        stop(process)
        log.close()
        shutil.rmtree(temporary, ignore_errors=True)


def stop(process: subprocess.Popen) -> None:
    """End a head and all that it started, here and in sessions of their own; `ray stop` would end other heads too."""
    process.terminate()  # ray start --block stops its own processes
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=60)
    for pid in processes_of(process.pid):
        end(pid)
    process.wait(timeout=10)


def wait_until_up(environment: dict, process: subprocess.Popen, log: Path) -> None:
    """Until the job server answers; fails with the head's log."""
    for _ in range(60):
        listed = warm.run([*RAY, "job", "list"], env=environment, timeout=60)
        if listed.returncode == 0:
            return
        if process.poll() is not None:
            break
        time.sleep(1)
    pytest.fail(f"the ray head did not come up: {log.read_text()[-2000:]}")


def command(verb: str, *arguments: str) -> list[str]:
    """`seit-ray submit ...`, for nodes that have all packages."""
    return [sys.executable, "-m", "seit_ray", "submit", verb, "--installed", *arguments]


def submit(head: dict, verb: str, *arguments: str, timeout_s: float = 400) -> subprocess.CompletedProcess:
    """`seit-ray submit ...` that has finished."""
    return warm.run(command(verb, *arguments), cwd=ROOT, env=head, timeout=timeout_s)


def jobs(head: dict) -> dict[str, str]:
    """Submission id -> status of all jobs of a head."""
    listed = warm.run([*RAY, "job", "list"], env=head, timeout=60)
    assert listed.returncode == 0, listed.stderr
    return dict(re.findall(r"submission_id='([^']+)'.*?status=<JobStatus\.(\w+)", listed.stdout, re.DOTALL))
