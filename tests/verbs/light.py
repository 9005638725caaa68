"""Commands whose imports are looked at: forks of one process that has imported the command line alone.

Each as a process of its own would take a second to import what they have in common.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORKS = """
import importlib, json, os, runpy, sys, traceback

place, commands, shared = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
for name in ("seit_ray.verbs.command.main", "seit_ray.config", *shared):
    importlib.import_module(name)
for number, words in enumerate(commands):
    pid = os.fork()
    if pid == 0:
        for stream, name in ((1, "out"), (2, "error")):
            os.dup2(os.open(f"{place}/{number}.{name}", os.O_CREAT | os.O_WRONLY), stream)
        sys.argv, status = ["seit-ray", *words], 1
        try:
            runpy.run_module("seit_ray", run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        with open(f"{place}/{number}.modules", "w") as file:
            json.dump([status, sorted(sys.modules)], file)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@dataclass(frozen=True)
class Light:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str
    packages: set[str]  # that were imported at its end


def run_light(commands, place, *, cwd=ROOT, shared=()):
    """What came of `seit-ray ...`, of lists of words, one after another.

    place: a folder to be made for what they say; shared: packages that may be there in all of them.
    """
    place.mkdir()
    variables = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", FORKS, str(place), json.dumps(commands), *shared],
        cwd=cwd,
        env=variables | {"COLUMNS": "100"},
        timeout=60 + 20 * len(commands),
        check=True,
    )
    return [outcome(place, number) for number in range(len(commands))]


def outcome(place, number):
    """What the command of this number has left behind."""
    out, error = ((place / f"{number}.{name}").read_text() for name in ("out", "error"))
    modules = place / f"{number}.modules"
    assert modules.exists(), error
    status, names = json.loads(modules.read_text())
    return Light(status, out, error, {name.partition(".")[0] for name in names})
