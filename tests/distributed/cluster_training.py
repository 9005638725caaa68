"""A training while nodes of a cluster come and go: python -m tests.distributed.cluster_training FOLDER DATASET.

Prints a line of JSON: what happened. A process of its own, since a test session has a Ray already.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "20"

from ray.cluster_utils import Cluster as RayCluster

from seit_ray import config
from seit_ray.distributed.cluster import connected
from seit_ray.distributed.train_job import run_training
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names
from tests.distributed.cluster_runs import SLOWLY, arguments_of, slow_finetune

HEAD = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False}


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


def disturb(cluster, node, folder, run):
    """Kill a worker, take a node away, bring another."""
    sizes = lambda: [entry["world"] for entry in journal_of(folder) if "pid" in entry]  # noqa: E731
    wait_for(lambda: checkpoint_names(run), "a checkpoint")
    os.kill(next(entry["pid"] for entry in journal_of(folder, 1) if "pid" in entry), signal.SIGKILL)
    wait_for(lambda: len(sizes()) >= 2, "a second group")
    begun = len(journal_of(folder))
    wait_for(lambda: len(journal_of(folder)) > begun + 3, "steps of the second group")
    cluster.remove_node(node, allow_graceful=False)
    wait_for(lambda: sizes()[-1] == 1, "a smaller group")
    begun = len(journal_of(folder))
    wait_for(lambda: len(journal_of(folder)) > begun + 3, "steps of the smaller group")
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    wait_for(lambda: sizes()[-1] == 2, "a larger group")


def main(folder, dataset):
    """Train while nodes come and go."""
    cluster = RayCluster(initialize_head=True, head_node_args=HEAD)
    run, outcome = Folder(folder).join("run"), {}
    with connected(cluster.address) as connection:  # before there are others: the driver is to stay with the head
        _, second = (cluster.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2))

        def train():
            settings = config.Workers(num_workers=(1, 2), resize_every_s=2, max_failures=20).model_dump()
            given = {**arguments_of(dataset, run), "journal": folder}
            try:
                outcome["metrics"] = run_training(slow_finetune, given, name="elastic", cluster=connection, **settings)
            except BaseException as error:
                outcome["error"] = repr(error)

        (Path(folder) / SLOWLY).touch()
        thread = threading.Thread(target=train, daemon=True)
        thread.start()
        try:
            disturb(cluster, second, folder, run)
        finally:
            (Path(folder) / SLOWLY).unlink()
            thread.join(200)
            print(json.dumps({**outcome, "journal": journal_of(folder)}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
