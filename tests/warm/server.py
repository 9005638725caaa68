"""The processes that fork: python -m tests.warm.server FOLDER; its sockets lie in the folder; until stdin ends.

Ray's core reads its variables when it is imported, and they differ by node: so there is a second process for each set
of them, forked from the first, that imports ray.
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
import sys
import threading
import traceback
import weakref
from pathlib import Path

from tests.warm.client import FORKED

AGENT_MODULES = (
    *("aggregator.aggregator_agent", "event.event_agent", "job.job_agent", "job.job_supervisor", "log.log_agent"),
    *("reporter.healthz_agent", "reporter.reporter_agent"),
)
WITHOUT_RAY = (
    *("numpy", "pandas", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.fs", "torch", "torchvision", "timm"),
    *("pydantic", "google.protobuf", "aiohttp", "requests", "rich", "tensorboardX", "optuna", "yaml"),
    *("PIL.Image", "simplejpeg", "safetensors.torch", "torch.utils.tensorboard"),
    *("seit_ray.storage.s3", "seit_ray.runs.pretrain", "seit_ray.runs.finetune"),
    *("seit_ray.evaluation.image_classifier", "seit_ray.config"),
)
WITH_RAY = (
    *("ray._private.workers.setup_worker", "ray.dag.compiled_dag_node"),  # the second is imported at the end of each
    "ray.dashboard.http_server_agent",
    *(f"ray.dashboard.modules.{name}" for name in AGENT_MODULES),
    "seit_ray.distributed.data.fit_job",
    "seit_ray.distributed.data.predict_parts",
    "seit_ray.distributed.data.tokenize_parts",
    "seit_ray.distributed.tune.sweep_job",
    "seit_ray.verbs.command.main",
    *(f"seit_ray.verbs.{verb}" for verb in ("tokenize_images", "pretrain", "finetune", "evaluate", "sweep", "submit")),
)
IDS_OF_A_WORKER, THREADS_OF_A_WORKER = 10_000, 100
UNBUFFERED = "-u"


def serve(place: str) -> None:
    """The first process: fork one for each set of variables that is named, until stdin ends."""
    before = os.environ.keys() | {"RAY_RAYLET_PID"}
    load(WITHOUT_RAY)
    listener, keys = listening(f"{place}/first"), set()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        client, _ = listener.accept()
        asked = client.recv(1 << 20)
        key, variables = json.loads(asked) if asked else (None, {})  # killed before it has asked
        if key is not None and key not in keys:
            keys.add(key)
            told, tell = os.pipe()
            if os.fork() == 0:
                listener.close()
                client.close()
                os.close(told)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for name in [name for name in os.environ if name.startswith("RAY_")]:
                    del os.environ[name]
                # a worker ends when this process does; it ends with its node too, as who asked for it does (`client`)
                os.environ.update(variables, RAY_RAYLET_PID=str(os.getpid()))
                sockets = listening(f"{place}/{key}")
                os.write(tell, b"+")
                os.close(tell)
                load(WITH_RAY)
                Forks(sockets, {k: v for k, v in os.environ.items() if k not in before | variables.keys()}).serve()
                os._exit(0)
            os.close(tell)
            os.read(told, 1)
            os.close(told)
        with contextlib.suppress(OSError), client:
            client.sendall(b"+")
    os._exit(0)  # without what libraries do, and say, at the end of Python


def listening(path: str) -> socket.socket:
    """A socket at a path."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def load(names: tuple[str, ...]) -> None:
    """Import, and keep what is there out of the way of the collection of garbage, which would copy it."""
    for name in names:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


class Forks:
    """A process that has imported ray: a fork for each that is asked for, until stdin ends."""

    def __init__(self, listener: socket.socket, by_imports: dict[str, str]):
        self.listener = listener
        self.by_imports = by_imports  # variables that modules set where nobody has
        self.clients: dict[int, socket.socket] = {}  # by the fork's pid
        self.woken, self.waker = socket.socketpair()  # by the end of a fork
        self.woken.setblocking(False)
        self.waker.setblocking(False)

    def serve(self) -> None:
        """Until stdin ends."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker.fileno())
        ready = []
        while sys.stdin not in ready:
            if self.woken in ready:
                self.woken.recv(4096)
                self.report_ends()
            for pid, client in self.clients.items():
                if client in ready:  # who asked for it has gone, or Ray has ended the process that it knows
                    kill(pid)
            if self.listener in ready:
                self.fork(self.listener.accept()[0])
            ready = select.select([self.listener, self.woken, sys.stdin, *self.clients.values()], [], [])[0]
        for pid in self.clients:
            kill(pid)

    def report_ends(self) -> None:
        """Tell who waits for them of forks that have ended."""
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with contextlib.suppress(OSError), self.clients.pop(pid) as client:
                client.sendall(status.to_bytes(4, "big"))

    def fork(self, client: socket.socket) -> None:
        """What is asked for; nothing when who asks is killed before it is done."""
        files = array.array("i")
        head, messages, _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * files.itemsize))
        for _, _, data in messages:
            files.frombytes(data)
        with client.makefile("rb") as stream:
            asked = stream.read(int.from_bytes(head, "big")) if messages else b""
        if not asked or len(asked) < int.from_bytes(head, "big"):
            client.close()
            for file in files:
                os.close(file)
            return
        words, variables, folder, session = json.loads(asked)
        use_up_ids()
        pid = os.fork()
        if pid:
            self.clients[pid] = client
            for file in files:
                os.close(file)
            with contextlib.suppress(OSError):
                client.sendall(pid.to_bytes(4, "big"))
            return
        if session:
            os.setsid()
        else:
            os.setpgrp()  # Ray kills the whole group of a worker that has ended
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist leaves it out, Ray cancels tasks by it
        for used in (self.listener, self.woken, self.waker, client, *self.clients.values()):
            used.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(self.by_imports | variables)
        os._exit(ended(words))


def use_up_ids() -> None:
    """Have Ray's generator of ids stand elsewhere than for the fork before.

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


def kill(pid: int) -> None:
    """End a fork that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ended(words: list[str]) -> int:
    """In the fork: what Python does with these words, from its start to its end; the exit status."""
    import numpy as np

    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # what lives on in the process that forked
    np.random.seed()  # Python's own generator is seeded anew by a fork, and torch's begins always the same
    reopen(unbuffered=UNBUFFERED in words[:1])
    words = words[words[0] == UNBUFFERED :]
    sys.executable = os.environ.get("WARM_PYTHON", sys.executable)
    try:
        if words[0].endswith(FORKED) or (words[1:2] and words[1].endswith(FORKED)):
            run_of_ray(words)
        else:
            run_command(words)
        status = 0
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(BaseException):  # as at the end of Python
        threading._shutdown()
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def reopen(*, unbuffered: bool) -> None:
    """Streams to the files that stand there now, as Python opens them."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False, buffering=1 if unbuffered or os.isatty(1) else -1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def run_command(words: list[str]) -> None:
    """`-m module`, `-c code` or a script, with its arguments."""
    paths = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    kind, arguments = words[0], words[1:]
    if kind == "-m":
        sys.argv, sys.path[:1] = arguments, [os.getcwd(), *paths]
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[:1] = ["-c", *arguments[1:]], ["", *paths]
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        assert not kind.startswith("-"), kind
        sys.argv, sys.path[:1] = words, [str(Path(kind).resolve().parent), *paths]
        runpy.run_path(kind, run_name="__main__")


def run_of_ray(words: list[str]) -> None:
    """What Ray's `setup_worker.py`, where the command has it, and then the script of its own do."""
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.utils import update_envs
    from ray._private.workers.setup_worker import parser

    if words[0].endswith("/setup_worker.py"):
        options, words = parser.parse_known_args(words[1:])
        context = RuntimeEnvContext.deserialize(options.serialized_runtime_env_context or "{}")
        if context.command_prefix:  # of a job
            change, folder, then = context.command_prefix
            assert (change, then) == ("cd", "&&"), context.command_prefix
            os.chdir(shlex.split(folder)[0])
        update_envs(context.env_vars)
    if not words[0].endswith("/default_worker.py"):  # agents watch the node as the process that started them
        os.environ["RAY_RAYLET_PID"] = str(os.getppid())
    run_command(words)


if __name__ == "__main__":
    serve(sys.argv[1])
