"""Ray's workers, forked from one process that has imported what they need: a tenth of the time of a fresh Python.

Starting Python with torch and ray is most of what a test of a job takes: 4 s of a core for each of its workers.
So do the rays of test sessions, pretended nodes, and, by the variables of `warm_variables`, the drivers and heads that
tests start as processes of their own. Those of an installed wheel start theirs as Ray does.

Ray starts a worker by a command whose first word is `sys.executable`. In its place stands CLIENT, a script that hands
words, variables and files to the process that has imported (`serve`), which forks, and that ends as its worker ends.
Ray's core reads its variables when it is imported, and they differ by node and job: so there is a second process for
each job of a node, forked from the first, that imports ray.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_RAY = (
    *("numpy", "pandas", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.fs", "torch", "torchvision", "timm"),
    *(
        "pydantic",
        "seit_ray.storage.s3",
        "google.protobuf",
        "aiohttp",
        "requests",
        "rich",
        "tensorboardX",
        "optuna",
        "yaml",
    ),
    *("PIL.Image", "simplejpeg", "safetensors.torch", "torch.utils.tensorboard"),
    *("seit_ray.runs.pretrain", "seit_ray.runs.finetune", "seit_ray.evaluation.image_classifier", "seit_ray.config"),
)
WITH_RAY = (
    "ray._private.workers.setup_worker",
    "seit_ray.distributed.data.fit_job",
    "seit_ray.distributed.data.predict_parts",
    "seit_ray.distributed.data.tokenize_parts",
    "seit_ray.distributed.tune.sweep_job",
)
IDS_OF_A_WORKER, THREADS_OF_A_WORKER = 10_000, 100
LOOK_S = 5.0  # between looks whether the node of a job still runs
BY_JOB = ("RAY_JOB_ID", "RAY_RAYLET_PID")
CLIENT = """#!{python} -IS
import array, json, os, socket, sys
words = sys.argv[1:]
if not any(word.endswith("/default_worker.py") for word in words[:2]):
    os.execv({python!r}, [{python!r}, *words])
job = "-".join(os.environ.get(name, "") for name in {by_job!r})
with socket.socket(socket.AF_UNIX) as first:
    first.connect({place!r} + "/first")
    first.sendall(json.dumps([job, dict((k, v) for k, v in os.environ.items() if k.startswith("RAY_"))]).encode())
    assert first.recv(1), "no process to fork"
server = socket.socket(socket.AF_UNIX)
server.connect({place!r} + "/" + job)
data = json.dumps([words, dict(os.environ), os.getcwd()]).encode()
files = array.array("i", [0, 1, 2])
server.sendmsg([len(data).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
server.sendall(data)
status = server.recv(4)  # when the worker ends
sys.exit(int.from_bytes(status, "big") if status else 1)
"""


@contextlib.contextmanager
def warm_python() -> Iterator[str]:
    """A Python for `started_with`, as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="warm-", dir="/tmp") as place:
        client, python = Path(place, "python"), sys.executable
        values = {"python": python, "place": place, "by_job": BY_JOB}
        client.write_text(CLIENT.format(**values))
        client.chmod(0o755)
        command = [python, "-m", __name__, place]
        # its end of the pipe closes however this process ends
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        server = subprocess.Popen(command, cwd=ROOT, text=True, process_group=0, **pipes)
        try:
            line = server.stdout.readline()
            assert line == "ready\n", line
            yield str(client)
        finally:
            server.stdin.close()
            server.wait(30)
            server.stdout.close()


@cache
def shared_python() -> str:
    """A Python for `started_with`, one for this process, as long as it runs."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(warm_python())


def warm_variables() -> dict[str, str]:
    """Variables for a command that a test starts: the Ray that it starts takes such workers."""
    path = [str(ROOT / "tests" / "warm_site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "WARM_PYTHON": shared_python()}


@contextlib.contextmanager
def started_with(python: str) -> Iterator[None]:
    """A block; the nodes of Ray that start in it start their workers with this Python."""
    before, sys.executable = sys.executable, python
    try:
        yield
    finally:
        sys.executable = before


def listening(path: str) -> socket.socket:
    """A socket at a path."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def serve(place: str) -> None:
    """The first process: fork one for each job that is named, until stdin ends."""
    load(WITHOUT_RAY)
    listener, jobs = listening(f"{place}/first"), set()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        client, _ = listener.accept()
        job, variables = json.loads(client.recv(1 << 20))
        if job not in jobs:
            jobs.add(job)
            told, tell = os.pipe()
            if os.fork() == 0:
                listener.close()
                client.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for name in [name for name in os.environ if name.startswith("RAY_")]:
                    del os.environ[name]
                os.environ.update(variables)
                forks = Forks(listening(f"{place}/{job}"), int(variables.get("RAY_RAYLET_PID", 0)))
                os.write(tell, b"+")
                os.close(tell)
                load(WITH_RAY)
                forks.serve()
                os._exit(0)
            os.close(tell)
            os.read(told, 1)
            os.close(told)
        client.sendall(b"+")
        client.close()
    os._exit(0)  # without what libraries do, and say, at the end of Python


def load(names: tuple[str, ...]) -> None:
    """Import, and keep what is there out of the way of the collection of garbage, which would copy it."""
    for name in names:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


class Forks:
    """The process of a job: a fork for each worker, until stdin ends, or the node of the job."""

    def __init__(self, listener: socket.socket, raylet: int):
        self.listener, self.raylet = listener, raylet
        self.clients: dict[int, socket.socket] = {}  # by the worker's pid
        self.woken, self.waker = socket.socketpair()  # by the end of a worker
        self.woken.setblocking(False)
        self.waker.setblocking(False)

    def serve(self) -> None:
        """Until stdin or the node ends."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker.fileno())
        ready = []
        while sys.stdin not in ready and (self.clients or ready or is_alive(self.raylet)):
            if self.woken in ready:
                self.woken.recv(4096)
                self.report_ends()
            for pid, client in self.clients.items():
                if client in ready:  # Ray has ended the process that it knows
                    kill(pid)
            if self.listener in ready:
                self.fork(self.listener.accept()[0])
            ready = select.select([self.listener, self.woken, sys.stdin, *self.clients.values()], [], [], LOOK_S)[0]
        for pid in self.clients:
            kill(pid)

    def report_ends(self) -> None:
        """Tell who waits for them of workers that have ended."""
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError), self.clients.pop(pid) as client:
                client.sendall((code if code >= 0 else 128 - code).to_bytes(4, "big"))

    def fork(self, client: socket.socket) -> None:
        """A worker."""
        files = array.array("i")
        head, (message, *_), _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * files.itemsize))
        files.frombytes(message[2])
        with client.makefile("rb") as stream:
            words, variables, folder = json.loads(stream.read(int.from_bytes(head, "big")))
        use_up_ids()
        pid = os.fork()
        if pid:
            self.clients[pid] = client
            for file in files:
                os.close(file)
            return
        os.setpgrp()  # Ray kills the whole group of a worker that has ended
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for used in (self.listener, self.woken, self.waker, client, *self.clients.values()):
            used.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        os._exit(run_worker(words))


def use_up_ids() -> None:
    """Have Ray's generator of ids stand elsewhere than for the worker before.

    Each thread of a process has one, which is seeded, when it first draws, from a pool that a fork would take as it
    stands: the threads of all workers would draw the same ids, and remove each other's placement groups. Threads that
    draw here, more than a worker has, move the pool on.
    """
    from ray._raylet import UniqueID

    UniqueID.from_random()
    threads = [threading.Thread(target=UniqueID.from_random) for _ in range(THREADS_OF_A_WORKER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(IDS_OF_A_WORKER):  # of the main thread, whose generator is there
        UniqueID.from_random()


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    return not pid or os.path.exists(f"/proc/{pid}")


def kill(pid: int) -> None:
    """End a worker that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def run_worker(words: list[str]) -> int:
    """In the fork: what Ray's `setup_worker.py`, where the command has it, and then its `default_worker.py` do."""
    import numpy as np
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.utils import update_envs
    from ray._private.workers.setup_worker import parser

    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist leaves it out, and Ray cancels tasks by it
    np.random.seed()  # Python's own generator is seeded anew by a fork, and torch's begins always the same
    options, arguments = parser.parse_known_args(words[words[0].endswith("setup_worker.py") :])
    context = RuntimeEnvContext.deserialize(options.serialized_runtime_env_context or "{}")
    if context.command_prefix:  # of a job
        change, folder, then = context.command_prefix
        assert (change, then) == ("cd", "&&"), context.command_prefix
        os.chdir(shlex.split(folder)[0])
    update_envs(context.env_vars)
    sys.argv = arguments
    sys.path[:1] = [str(Path(arguments[0]).parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
