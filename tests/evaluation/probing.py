"""One of several processes that probe together: python -m tests.evaluation.probing FOLDER SIZE RANK."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch

from seit_ray.evaluation.probe import probe_metrics
from seit_ray.training.world import World
from tests.tiny_trainers import tiny_masked, tiny_store


def main(folder, size, rank):
    """Probe a masked model, on samples of both splits, and write what this rank found."""
    if size > 1:
        patience = timedelta(seconds=120)
        torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", patience, size, rank)
    world = World(rank, size, torch.device("cpu"))
    found = []
    # of the 3 rows of the last val split, a chunk of 20 leaves the second rank nothing
    for max_val, batch_size in ((40, 7), (3, 20)):
        sizes = {"max_train": 50, "max_val": max_val, "k": 5, "batch_size": batch_size}
        found.append(probe_metrics(tiny_masked(), tiny_store(64), tiny_store(48, seed=1), 4, world, **sizes))
    Path(folder, f"{size}-{rank}.json").write_text(json.dumps(found))
    if size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
