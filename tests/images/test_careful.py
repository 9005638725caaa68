"""Decoding in processes that may end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from seit_ray.images.careful import ENDED, decoded_carefully
from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.storage import Folder
from tests.images.deadly import DEADLY, Deadly
from tests.images.found import find_images, write_manifest
from tests.tiny_images import image_files, write_files

FILES = image_files(12)
ROOT = Path(__file__).parents[2]


def test_an_image_whose_decoding_ends_the_process_is_a_reject(tmp_path):
    """In a process of its own: what it is given to decode with ends it for one of the images."""
    files = FILES | {"cat/deadly.jpg": DEADLY}
    source = write_files(tmp_path / "images", files)
    manifest = write_manifest(find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    listed = manifest.read_part("train", 0)
    found = list(decoded_carefully(listed, source, Deadly(32, "squash")))
    rejected = [row for images in found for row in images.rejected.to_pylist()]
    assert [(row["key"], row["reason"]) for row in rejected] == [("cat/deadly.jpg", ENDED)]
    keys = [key for images in found for key in images.rows["key"].to_pylist()]
    assert keys == sorted(set(files) - {"cat/deadly.jpg"})
    expected = list(decoded_chunks(listed, source, Decoding(32, "squash")))
    good = np.concatenate([images.pixels for images in found])
    assert np.array_equal(good, np.concatenate([images.pixels for images in expected]))


OWNER = """
import os, sys
from seit_ray.images.careful import new_process
if __name__ == "__main__":
    pool = new_process()
    print(pool.submit(os.getpid).result(), flush=True)
    sys.stdin.read()
"""


def test_the_process_ends_with_the_one_that_started_it(tmp_path):
    """Also with one that was killed, which tells it nothing."""
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes) as owner:
        place = Path(f"/proc/{int(owner.stdout.readline())}")
        assert is_running(place)
        owner.kill()
    deadline = time.monotonic() + 60
    while is_running(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(place):
    """Whether a process of /proc is there, and not dead."""
    try:
        return (place / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
