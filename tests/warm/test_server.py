"""What the warm workers of the tests must not share, and who is killed while it asks for one."""

import array
import socket
import subprocess
import sys
from pathlib import Path

from tests.warm import processes as warm

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


def test_askers_that_are_killed_midway_leave_the_server_as_it_was():
    def print_1():
        return warm.run([sys.executable, "-c", "print(1)"], timeout=100)

    assert print_1().stdout == "1\n"
    sockets = [path for path in warm.shared_server().iterdir() if path.is_socket()]
    assert len(sockets) >= 2  # the first, and one for each set of variables
    for path in sockets:
        for said in (b"", b"\x00", (100).to_bytes(4, "big") + b"[") if path.name != "first" else (b"",):
            with socket.socket(socket.AF_UNIX) as asker:
                asker.connect(str(path))
                if said:
                    files = array.array("i", (0, 1, 2))
                    asker.sendmsg([said], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    assert print_1().stdout == "1\n"
