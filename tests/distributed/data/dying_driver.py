"""A driver that ends in a chosen way at a chosen moment: python -m tests.distributed.data.dying_driver MOMENT KEYS...

`list`, `tokenise`, `marker`, `clean up`: kill -9 of itself in that phase. `node`: on a cluster of two nodes, one of
which goes down at a quarter. `none`: runs to the end.
"""

from __future__ import annotations

import os
import signal
import sys

from seit_ray.config import TokenizeImages, load
from seit_ray.storage import Folder
from seit_ray.verbs.tokenize_images import tokenize_images


def die(*_: object) -> None:
    """kill -9 of this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_on_write(end: str) -> None:
    """When an object whose name ends so is to be written."""
    write = Folder.write

    def watched(self: Folder, name: str, data: bytes) -> None:
        if name.endswith(end):
            die()
        write(self, name, data)

    Folder.write = watched


def prepare(moment: str):
    """The progress to run with; changes what must end the process elsewhere."""
    from seit_ray.distributed.data import tokenize_job

    if moment == "list":
        die_on_write("manifest.json")  # its parts stand
    if moment == "marker":
        die_on_write("dataset.json")
    if moment == "clean up":
        tokenize_job.clean_up = die

    def on_progress(phase: str, done: int, total: int, note: str = "") -> None:
        if moment == "tokenise" and phase == moment and 2 * done > total:
            die()

    return on_progress


def with_two_nodes(config: TokenizeImages) -> None:
    """The job on a cluster of two nodes of one CPU; the second goes down at a quarter, with what runs on it."""
    import ray

    from tests.distributed.nodes import add_node, new_cluster

    cluster = new_cluster(num_cpus=1, object_store_memory=150 << 20)
    second = add_node(cluster, num_cpus=1, object_store_memory=150 << 20)
    cluster.wait_for_nodes()
    config.cluster.address = cluster.address
    removed = []

    def on_progress(phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "tokenise" and 4 * done > total and not removed:
            assert sum(node["Alive"] for node in ray.nodes()) == 2
            cluster.remove_node(second, allow_graceful=False)
            removed.append(done)
            print(f"removed at {done} of {total}")

    try:
        tokenize_images(config, on_progress)
        assert sum(node["Alive"] for node in ray.nodes()) <= 1 if ray.is_initialized() else removed
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    chosen, *keys = sys.argv[1:]
    wanted = load(TokenizeImages, [], keys)
    if chosen == "node":
        with_two_nodes(wanted)
    else:
        tokenize_images(wanted, prepare(chosen))
