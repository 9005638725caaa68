"""`Popen` and `run` of commands of this Python as forks; and what has Ray take its processes from there."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.warm.client import asked

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from tests.warm.client import main
sys.exit(main({place!r}, {python!r}))
"""


@contextlib.contextmanager
def started_server() -> Iterator[Path]:
    """The folder of a server, with `python`, a script to stand for Python where Ray starts processes."""
    with tempfile.TemporaryDirectory(prefix="warm-", dir="/tmp") as place:
        client = Path(place, "python")
        client.write_text(CLIENT.format(python=sys.executable, root=str(ROOT), place=place))
        client.chmod(0o755)
        command = [sys.executable, "-m", "tests.warm.server", place]
        # its end of the pipe closes however this process ends
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        # a fork would wait for threads of OpenMP that its parent had
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, cwd=ROOT, env=env, text=True, process_group=0, **pipes)
        try:
            line = server.stdout.readline()
            assert line == "ready\n", line
            yield Path(place)
        finally:
            server.stdin.close()
            server.wait(30)
            server.stdout.close()


@cache
def shared_server() -> Path:
    """The folder of a server, one for this process, as long as it runs."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(started_server())


def variables() -> dict[str, str]:
    """Variables for a command that a test starts: the Ray that it starts takes its processes from here."""
    path = [str(ROOT / "tests" / "warm" / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "WARM_PYTHON": str(shared_server() / "python")}


@contextlib.contextmanager
def for_ray() -> Iterator[None]:
    """A block; the nodes of Ray that start in it take their processes from here."""
    before, sys.executable = sys.executable, str(shared_server() / "python")
    try:
        yield
    finally:
        sys.executable = before


class Popen(subprocess.Popen):
    """As subprocess.Popen, of a command whose first word is this Python; the process is forked, and no child of ours.

    It ends with this one. Of options: cwd, env, stdin, stdout, stderr, text, start_new_session.
    """

    def __init__(self, command: Sequence[str | Path], **options: Any):
        assert str(command[0]) == sys.executable, command
        self._server, self._session = None, options.pop("start_new_session", False)
        super().__init__([str(word) for word in command], **options)

    def _execute_child(self, words, executable, preexec_fn, close_fds, pass_fds, cwd, env, *more):
        pipes = more[3:9]  # (ours, the child's) by stdin, stdout, stderr: stdin's the other way round
        files = [given if given != -1 else own for given, own in ((pipes[0], 0), (pipes[3], 1), (pipes[5], 2))]
        variables = {**(os.environ if env is None else env)}
        place, folder = str(shared_server()), str(cwd or Path.cwd())
        self._server = asked(place, words[1:], variables, folder, tuple(files), session=self._session)
        self.pid = int.from_bytes(self._server.recv(4), "big")
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self._ended(block=False)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        self._ended(block=wait_flags == 0)
        return (0, 0) if self.returncode is None else (self.pid, self._status)

    def _ended(self, *, block: bool) -> int | None:
        """The exit status, or None while it runs."""
        if self.returncode is None:
            self._server.setblocking(block)
            try:
                answer = self._server.recv(4)
            except BlockingIOError:
                return None
            self._server.close()
            self._status = int.from_bytes(answer, "big") if answer else signal.SIGKILL
            self.returncode = os.waitstatus_to_exitcode(self._status)
        return self.returncode


def run(command: Sequence[str | Path], *, timeout: float | None = None, **options: Any) -> subprocess.CompletedProcess:
    """As subprocess.run with captured text."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with Popen(command, **{**pipes, **options}) as process:
        try:
            printed, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed, errors)
