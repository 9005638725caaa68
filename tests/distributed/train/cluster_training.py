"""A training while nodes are lost, come and go: python -m tests.distributed.train.cluster_training FOLDER DATASET.

Prints a line of JSON: what happened. A process of its own, since a test session has a Ray already.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "3"  # after a loss, Ray first waits for a group as large

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import get_or_create_autoscaling_coordinator

from seit_ray import config
from seit_ray.distributed.cluster import connected
from seit_ray.distributed.train.train_job import run_training
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names
from tests.distributed.nodes import add_node, new_cluster
from tests.distributed.train.cluster_runs import SLOWLY, arguments_of, slow_finetune

NOTICE_S = 6.0
HEAD = {"num_cpus": 0, "object_store_memory": 100 << 20}


def journal_of(folder, rank=0):
    """What a rank wrote down."""
    path = Path(folder) / f"rank-{rank}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, what, timeout_s=150):
    """Until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come in {timeout_s} s"
        time.sleep(0.1)


def wait_for_group(folder, size):
    """Until a group of so many workers runs, and takes steps; Ray, which looks for nodes every 20 s, looks now."""
    coordinator = get_or_create_autoscaling_coordinator()

    def runs():
        ray.get(coordinator._tick.remote())
        begun = [i for i, entry in enumerate(journal_of(folder)) if "pid" in entry]
        return journal_of(folder)[begun[-1]]["world"] == size and len(journal_of(folder)) > begun[-1] + 2

    wait_for(runs, f"a group of {size}")


def started_node(address):
    """A node as its own process, which on SIGTERM gives notice and goes after NOTICE_S, as a pod or a service does."""
    start = ["start", f"--address={address}", "--num-cpus=1", f"--object-store-memory={100 << 20}", "--block"]
    code = "from ray.scripts.scripts import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *start],
        env={**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(NOTICE_S)},
        stdout=subprocess.DEVNULL,
    )


def disturb(cluster, node, folder, run):
    """Lose a node with its worker, bring another, and take that one away after a notice; the step of the notice."""
    wait_for(lambda: checkpoint_names(run), "a checkpoint")
    cluster.remove_node(node, allow_graceful=False)
    wait_for_group(folder, 1)
    third = started_node(cluster.address)
    try:
        wait_for_group(folder, 2)
        noticed = journal_of(folder)[-1]["step"]
        third.terminate()
        wait_for_group(folder, 1)
        third.wait(60)
    finally:
        third.kill()
    return noticed


def main(folder, dataset):
    """Train while nodes come and go."""
    cluster = new_cluster(**HEAD)
    run, outcome = Folder(folder).join("run"), {}
    with connected(cluster.address) as connection:  # before there are others: the driver is to stay with the head
        _, second = (add_node(cluster, num_cpus=1, object_store_memory=100 << 20) for _ in range(2))

        def train():
            settings = config.Workers(num_workers=(1, 2), resize_every_s=1).settings()
            given = {**arguments_of(dataset, run), "journal": folder}
            try:
                outcome["metrics"] = run_training(
                    slow_finetune, given, name="elastic", cluster=connection, workers=settings
                )
            except BaseException as error:
                outcome["error"] = repr(error)

        (Path(folder) / SLOWLY).touch()
        thread = threading.Thread(target=train, daemon=True)
        thread.start()
        try:
            outcome["noticed"] = disturb(cluster, second, folder, run)
        finally:
            (Path(folder) / SLOWLY).unlink()
            thread.join(200)
            print(json.dumps({**outcome, "journal": journal_of(folder)}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
