"""The command that each benchmark says it is started by starts it."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.warm import processes as warm

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
COMMAND = re.compile(r"^python ((?:-m )?\S+)", re.MULTILINE)
FILES = sorted(file.name for file in FOLDER.glob("*.py") if not file.name.startswith(("test_", "__")))


@pytest.mark.parametrize("name", [name for name in FILES if name != "listing_server.py"])  # which another one starts
def test_the_command_starts_the_benchmark(name):
    (command, *_) = COMMAND.findall((FOLDER / name).read_text())
    answer = warm.run([sys.executable, *shlex.split(command), "--help"], cwd=ROOT, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"usage: {name}") or f"benchmarks.{name.removesuffix('.py')}" in answer.stdout
