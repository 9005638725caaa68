"""What the warm workers of the tests must not share."""

import subprocess
import sys
from pathlib import Path

FORKS = """
import os
from ray._raylet import UniqueID
from tests.warm_workers import IDS_OF_A_WORKER, use_up_ids
UniqueID.from_random()
for _ in range(3):
    use_up_ids()
    if os.fork() == 0:
        print(*(UniqueID.from_random().hex() for _ in range(100)), flush=True)
        os._exit(0)
    os.wait()
"""


def test_two_workers_draw_other_ids():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    drawn = done.stdout.split()
    assert len(drawn) == 300
    assert len(set(drawn)) == 300
