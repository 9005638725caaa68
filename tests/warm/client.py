"""How a process is asked for: in place of Python, as Ray calls it (`main`), and for `processes.Popen`.

Of the standard library alone: each of Ray's workers begins here.
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import signal
import socket
import sys

# Of Ray's own processes, by the ends of their scripts
FORKED = (
    "/default_worker.py",
    "/dashboard/agent.py",
    "/dashboard/dashboard.py",
    "/runtime_env/agent/main.py",
    "/_private/log_monitor.py",
    "/_private/monitor.py",
)
# differ from process to process; no import of ray reads them, but for the pid, for which see `server.serve`, and for
# how agents watch their node, by a pipe or by that pid
BY_PROCESS = (
    *("RAY_RAYLET_PID", "RAY_NODE_ID", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_LOGS", "RAY_CLIENT_MODE"),
    "RAY_enable_pipe_based_agent_to_parent_health_check",
)


def main(place: str, python: str) -> int:
    """Stand for a fork until it ends, or whoever started this has.

    It is one of Ray's processes, or the driver of a job; other commands are run as they are.
    """
    words = sys.argv[1:]
    # what makes nodes starts as Ray has it: as a fork it has made none, once in a while
    scales = any(word.startswith("--autoscaling-config=") for word in words)
    if scales or (not any(word.endswith(FORKED) for word in words[:2]) and words[:2] != ["-m", "seit_ray"]):
        os.execv(python, [python, *words])
    parent = os.getppid()
    with asked(place, words, dict(os.environ), os.getcwd(), (0, 1, 2), session=False) as server:
        server.settimeout(1)
        answer = b""
        while len(answer) < 8 and os.getppid() == parent:
            try:
                got = server.recv(8 - len(answer))
            except TimeoutError:
                continue
            if not got:
                break
            answer += got
            if len(answer) == 4:
                pass_on_sigterm(int.from_bytes(answer, "big"))
    code = os.waitstatus_to_exitcode(int.from_bytes(answer[4:], "big")) if len(answer) == 8 else 1
    return code if code >= 0 else 128 - code


def pass_on_sigterm(pid: int) -> None:
    """A job is stopped by it: the fork ends, and with it what stands for it."""
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(pid, number))


def asked(
    place: str, words: list[str], variables: dict[str, str], folder: str, files: tuple[int, ...], *, session: bool
) -> socket.socket:
    """The socket of a fork: it says its pid, and its wait status when it ends, 4 bytes each; closed, it is killed.

    words: what follows `python`. files: its stdin, stdout and stderr. session: it leads one of its own.
    """
    of_ray = {k: v for k, v in sorted(variables.items()) if k.startswith("RAY_") and k not in BY_PROCESS}
    key = hashlib.sha256(json.dumps(of_ray).encode()).hexdigest()[:16]
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(f"{place}/first")
        first.sendall(json.dumps([key, of_ray]).encode())
        assert first.recv(1), "no process to fork"
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{place}/{key}")
    data = json.dumps([words, variables, folder, session]).encode()
    server.sendmsg([len(data).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
    server.sendall(data)
    return server
