"""Threads of torch sleep while they wait: on cores that others share, those that spin would starve each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# libgomp names what it goes by as it is loaded, which is when torch is
SHOW = "import seit_ray.training.loop"


def shown(**environment):
    """What the OpenMP of a process of this package says of itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-c", SHOW]
    asked = {**kept, "OMP_DISPLAY_ENV": "TRUE", **environment}
    done = subprocess.run(command, cwd=ROOT, env=asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_sleep_unless_the_environment_says_otherwise(given, found):
    assert f"OMP_WAIT_POLICY = '{found}'" in shown(**given)
