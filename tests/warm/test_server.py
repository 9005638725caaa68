"""What the warm workers of the tests must not share."""

import subprocess
import sys
from pathlib import Path

FORKS = """
import os
import threading
from ray._raylet import UniqueID
from tests.warm.server import use_up_ids

def draw():
    print(*(UniqueID.from_random().hex() for _ in range(3)), flush=True)

for _ in range(3):
    use_up_ids()
    if os.fork() == 0:
        draw()
        for _ in range(40):
            thread = threading.Thread(target=draw)
            thread.start()
            thread.join()
        os._exit(0)
    os.wait()
"""


def test_no_thread_of_a_worker_draws_the_ids_of_another():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    drawn = done.stdout.split()
    assert len(drawn) == 3 * 41 * 3
    assert len(set(drawn)) == len(drawn)
