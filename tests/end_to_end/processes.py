"""Verbs as processes of their own, as a user starts them, and the end of all that a killed one leaves."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from seit_ray.verbs.command.main import main
from tests.warm import processes as warm

ROOT = Path(__file__).resolve().parents[2]
LOCAL_RAY = ("cluster.num_cpus=2", "cluster.object_store_mib=200")
AGENTS = (
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
)  # Ray's own; they notice the end of a killed driver late


def environment(**more: str) -> dict[str, str]:
    """That of the tests without anybody's Ray and AWS settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "RAY_AUTH_MODE": "disabled"}
    nobody |= {"AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    nobody |= {"RAY_worker_niceness": "0", "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0"}
    return {**kept, **nobody, **more}


def warm_environment(**more: str) -> dict[str, str]:
    """As `environment`, and the Ray of a command has workers that start at once."""
    return environment(**{**warm.variables(), **more})


def command(verb: str, *arguments: str) -> list[str]:
    """What a user types."""
    return [sys.executable, str(Path("pipelines", f"{verb}.py")), *arguments]


def run_verb(verb: str, *arguments: str, timeout_s: float = 300, **env: str) -> subprocess.CompletedProcess:
    """A verb from start to end, with what it printed."""
    return warm.run(command(verb, *arguments), cwd=ROOT, env=warm_environment(**env), timeout=timeout_s)


def succeed(verb: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    """A verb that must end well; in this process unless it is to have other variables."""
    done = run_verb(verb, *arguments, **env) if env else here(verb, *arguments)
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr
    return done


def here(verb: str, *arguments: str) -> subprocess.CompletedProcess:
    """The same command in this process, and so on the ray that it has; what a fresh Python takes is saved."""
    out, error, status, before = io.StringIO(), io.StringIO(), 0, signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main([verb, *arguments])
        except SystemExit as ended:
            status = ended.code
        finally:
            signal.signal(signal.SIGTERM, before)
    return subprocess.CompletedProcess([verb, *arguments], status, out.getvalue(), error.getvalue())


def signal_when(
    number: signal.Signals,
    condition: Callable[[], bool],
    verb: str,
    *arguments: str,
    workers_too: bool = False,
    timeout_s: float = 200,
    **env: str,
) -> tuple[int, str]:
    """Start a verb, send its driver a signal as soon as the condition holds, and wait until nothing of it runs.

    workers_too: kill all its other processes at once, as when the machine goes down; else they end when they miss the
    driver. Returns the driver's exit status and what it wrote to stderr.
    """
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody reads would fill up
        process = warm.Popen(
            command(verb, *arguments),
            cwd=ROOT,
            env=warm_environment(**env),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            deadline = time.monotonic() + timeout_s
            while not condition():
                assert process.poll() is None, f"ended before the moment to signal it: {content(errors)}"
                assert time.monotonic() < deadline, f"the moment to signal it did not come in {timeout_s} s"
                time.sleep(0.005)
            process.send_signal(number)
            for pid in processes_of(process.pid) if workers_too else ():
                end(pid)
            process.wait(timeout_s)
        finally:
            process.kill()
            process.wait()
            wait_for_end_of_session(process.pid)
        return process.returncode, content(errors)


def content(file: TextIO) -> str:
    """All that a file holds."""
    file.seek(0)
    return file.read()


def kill_when(condition: Callable[[], bool], verb: str, *arguments: str, **options: Any) -> None:
    """Kill -9 of a verb's driver; see `signal_when`."""
    status, errors = signal_when(signal.SIGKILL, condition, verb, *arguments, **options)
    assert status == -signal.SIGKILL, errors


def wait_for_end_of_session(session: int, timeout_s: float = 60) -> None:
    """Until no process of a session runs; Ray's agents, which write no files of ours, are ended here."""
    deadline = time.monotonic() + timeout_s
    while left := processes_of(session):
        workers = {pid: name for pid, name in left.items() if not name.startswith(AGENTS)}
        if not workers:
            for pid in left:
                end(pid)
        elif time.monotonic() > deadline:
            for pid in left:
                end(pid)
            raise AssertionError(f"still running {timeout_s} s after their driver was killed: {workers}")
        time.sleep(0.1)


def processes_of(session: int) -> dict[int, str]:
    """pid -> command line of the processes that a session leader started, zombies left out."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat=,args="], capture_output=True, text=True, check=True)
    found = {}
    for line in listed.stdout.splitlines():
        pid, state, name = [*line.split(maxsplit=2), ""][:3]
        if not state.startswith("Z") and session_of(int(pid)) == session:
            found[int(pid)] = name
    return found


def session_of(pid: int) -> int | None:
    """The session of a process; None when it has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def end(pid: int) -> None:
    """Kill a process, if it still runs."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
