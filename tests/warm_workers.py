"""Ray's workers, forked from one process that has imported what they need: 0.2 s of a core each in place of 4.

Most of what a test of a job takes is else the start of Python with torch and ray, again and again. `warm_workers()` is
a block in which the rays that this process starts get their workers so; drivers and heads that tests start as
processes of their own get them as they are.

Ray starts a worker by a command whose first word is `sys.executable`. In its place stands CLIENT, a script that hands
arguments, variables and files to the process that imports (`serve`), which forks, and that ends as its worker ends.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "ray._private.workers.setup_worker",
    "ray.data",
    "ray.train.torch",
    "ray.tune",
    "optuna",
    "tests.distributed.data.dying",
    "tests.distributed.train.cluster_runs",
    "seit_ray.distributed.data.fit_job",
    "seit_ray.distributed.data.predict_slices",
    "seit_ray.distributed.train.train_job",
    "seit_ray.distributed.tune.sweep_job",
    "seit_ray.runs.finetune",
    "seit_ray.runs.pretrain",
)
CLIENT = """#!{python} -IS
import array, json, os, socket, sys
words = [sys.executable if w == sys.argv[0] else w for w in sys.argv[1:]]
if not (words and words[0].endswith("setup_worker.py")):
    os.execv({python!r}, [{python!r}, *words])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    data = json.dumps([words, dict(os.environ), os.getcwd()]).encode()
    files = array.array("i", [0, 1, 2])
    server.sendmsg([len(data).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    server.sendall(data)
    status = server.recv(4)  # when the worker ends
sys.exit(int.from_bytes(status, "big") if status else 1)
"""


@contextlib.contextmanager
def warm_workers() -> Iterator[None]:
    """A block in which the rays that this process starts fork their workers."""
    with tempfile.TemporaryDirectory(prefix="warm-", dir="/tmp") as place:
        address, client, python = f"{place}/socket", Path(place, "python"), sys.executable
        client.write_text(CLIENT.format(python=python, address=address))
        client.chmod(0o755)
        command = [python, "-m", __name__, address]
        # its end of the pipe closes however this process ends
        server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            line = server.stdout.readline()
            assert line == "ready\n", line
            sys.executable = str(client)
            yield
        finally:
            sys.executable = python
            server.stdin.close()
            server.wait(30)


def serve(address: str) -> None:
    """Fork a worker for each that asks, until stdin ends."""
    import importlib

    for name in MODULES:
        importlib.import_module(name)
    threads = os.listdir("/proc/self/task")
    print(threads, file=sys.stderr)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    print("ready", flush=True)
    clients: dict[int, socket.socket] = {}  # by the worker's pid
    with selectors.DefaultSelector() as selector:
        for file in (listener, woken, sys.stdin):
            selector.register(file, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if sys.stdin in ready:
                break
            if woken in ready:
                woken.recv(4096)
            while (ended := ended_child())[0]:
                pid, status = ended
                client = clients.pop(pid)
                with contextlib.suppress(OSError):
                    client.sendall(status.to_bytes(4, "big"))
                selector.unregister(client)
                client.close()
            if listener in ready:
                client, _ = listener.accept()
                request, files = received(client)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for file in (selector, listener, woken, waker, client, *clients.values()):
                        file.close()
                    become_worker(*request, files)
                for file in files:
                    os.close(file)
                clients[pid] = client
                selector.register(client, selectors.EVENT_READ)
            for pid, client in clients.items():
                if client in ready:  # Ray has ended the process that it knows
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
    for pid in clients:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ended_child() -> tuple[int, int]:
    """(pid, exit status) of a worker that has ended; pid 0 where there is none."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0
    code = os.waitstatus_to_exitcode(status)
    return pid, code if code >= 0 else 128 - code


def received(client: socket.socket) -> tuple[Any, list[int]]:
    """What CLIENT has sent: ([words, variables, directory], files)."""
    files = array.array("i")
    head, (message, *_), _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * files.itemsize))
    files.frombytes(message[2])
    with client.makefile("rb") as stream:
        return json.loads(stream.read(int.from_bytes(head, "big"))), list(files)


def become_worker(words: list[str], variables: dict[str, str], directory: str, files: list[int]) -> None:
    """In the fork: what `setup_worker.py`, and then the worker's script, would do; does not return."""
    import runpy

    import numpy as np
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.workers.setup_worker import parser

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    np.random.seed()  # of Python's and torch's own the one is seeded by a fork, and the other always the same
    options, arguments = parser.parse_known_args(words[1:])
    context = RuntimeEnvContext.deserialize(options.serialized_runtime_env_context or "{}")
    if context.command_prefix or context.override_worker_entrypoint:
        os.execv(sys.executable, [sys.executable, *words])
    from ray._private.utils import update_envs

    update_envs(context.env_vars)
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    status = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
